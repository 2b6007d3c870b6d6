"""statsforecast's models from the origins of `iotctl forecast score --output`, as a file of the same columns.

Usage: field.py SERIES.csv FORECASTS.csv OUTPUT.csv. Each model has the values before an origin, at most 60 days of them.
"""

import sys
import warnings

import pandas as pd
from statsforecast.models import AutoETS, AutoTheta, MSTL, SeasonalNaive

HISTORY, LEVEL = 60 * 24, 95


def main():
    warnings.filterwarnings("ignore")
    series = pd.read_csv(sys.argv[1], parse_dates=["timestamp"]).set_index("timestamp")["value"]
    asked = pd.read_csv(sys.argv[2], parse_dates=["origin", "timestamp"])
    models = {
        "SeasonalNaive": lambda: SeasonalNaive(24),
        "SeasonalNaive-168": lambda: SeasonalNaive(168),
        "AutoETS": lambda: AutoETS(season_length=24),
        "AutoTheta": lambda: AutoTheta(season_length=24),
        "MSTL": lambda: MSTL(season_length=[24, 168], trend_forecaster=AutoETS(model="ZZN")),
    }
    rows = []
    for origin, steps in asked.drop_duplicates(["origin", "timestamp"]).groupby("origin"):
        past = series[series.index < origin].iloc[-HISTORY:].to_numpy(float)
        for name, model in models.items():
            # Where a model fails, the usual fallback.
            try:
                found = model().forecast(past, len(steps), level=[LEVEL])
            except Exception:
                found = SeasonalNaive(24).forecast(past, len(steps), level=[LEVEL])
            for at, value, mean, low, high in zip(
                steps["timestamp"], steps["value"], found["mean"], found[f"lo-{LEVEL}"], found[f"hi-{LEVEL}"]
            ):
                rows.append((name, origin, at, value, mean, low, high))
    columns = ["model", "origin", "timestamp", "value", "forecast", "lower", "upper"]
    pd.DataFrame(rows, columns=columns).to_csv(sys.argv[3], index=False)


main()
