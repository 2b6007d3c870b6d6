"""MASE, coverage and mean width (in the unit of MASE) by model, and MASE by series. Usage: table.py SERIES OURS FIELD."""

import json
import pathlib
import sys

import pandas as pd


def main():
    series, ours, field = map(pathlib.Path, sys.argv[1:])
    rows = []
    for file in sorted(series.glob("*.csv")):
        values = pd.read_csv(file)["value"]
        naive = (values - values.shift(24)).abs().mean()
        for found in json.loads((ours / f"{file.stem}.json").read_text())["models"]:
            rows.append((file.stem, f"iotctl {found['model']}", found["mase"], found["coverage"], found["width"] / naive))
        for model, steps in pd.read_csv(field / file.name).groupby("model"):
            held = (steps["value"] >= steps["lower"]) & (steps["value"] <= steps["upper"])
            error = (steps["value"] - steps["forecast"]).abs().mean() / naive
            rows.append((file.stem, model, error, held.mean(), (steps["upper"] - steps["lower"]).mean() / naive))
    table = pd.DataFrame(rows, columns=["series", "model", "mase", "coverage", "width"])
    of = table.groupby("model")
    means = of[["mase", "coverage", "width"]].mean().assign(lowest_coverage=of["coverage"].min())
    print(means.sort_values("mase").round(3).to_string())
    print(table.pivot(index="series", columns="model", values="mase").round(3).to_string())


main()
