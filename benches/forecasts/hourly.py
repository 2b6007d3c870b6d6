"""What the series of series.py and of held_out.py have in common."""

import pandas as pd

HOURS = 12 * 7 * 24


def of(file, time, value, **options):
    table = pd.read_csv(file, na_values=["NA"], **options)
    return pd.Series(table[value].astype(float).values, pd.to_datetime(table[time], utc=True))


def write(series, output):
    """Writes the last twelve weeks of each series as OUTPUT/NAME.csv with timestamp,value."""
    output.mkdir(parents=True, exist_ok=True)
    for name, values in series.items():
        values = values.sort_index().resample("1h").mean().iloc[-HOURS:]
        table = values.interpolate("time").dropna().rename_axis("timestamp").rename("value")
        table.to_csv(output / f"{name}.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
