"""Runs the Python blocks of docs/notebook.md, one after another as cells of one notebook, and compares what they find.

Usage: blocks.py PAGE HOST:PORT READINGS.ndjson (in a folder in which `lake` is)
"""

import json
import math
import re
import sys
from collections import defaultdict

page, address, path = sys.argv[1:]
readings = [json.loads(line) for line in open(path)]
text = open(page, encoding="utf-8").read()
blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
assert len(blocks) >= 6, f"{len(blocks)} blocks"
assert "127.0.0.1:5433" in text
cells: dict = {}
for number, block in enumerate(blocks, 1):
    print(f"block {number}: {block.splitlines()[0]}")
    exec(compile(block.replace("127.0.0.1:5433", address), f"{page}, block {number}", "exec"), cells)

means, highest = defaultdict(list), {}
for reading in readings:
    if (value := reading.get("temperature")) is not None:
        means[reading["location"], reading["recorded_timestamp"][:13]].append(value)
        highest[reading["location"]] = max(value, highest.get(reading["location"], -math.inf))


def equal(name, found, expected):
    assert found.keys() == expected.keys(), f"{name}: {len(found)} groups instead of {len(expected)}"
    for key, value in expected.items():
        assert math.isclose(found[key], value, rel_tol=1e-6), f"{name}, {key}: {found[key]} instead of {value}"
    print(f"{name}: {len(found)} values equal")


expected = {key: math.fsum(values) / len(values) for key, values in means.items()}
hour = "%Y-%m-%dT%H"
hours = cells["hours"].reset_index()
equal("pandas by SQL", {(row.location, row.hour.strftime(hour)): row.temperature for row in hours.itertuples()}, expected)
found = cells["found"]
found = found[found.temperature.notna()]
equal("DuckDB", {(row.location, row.hour.strftime(hour)): row.temperature for row in found.itertuples()}, expected)
equal("polars", dict(cells["warmest"].iter_rows()), highest)
assert cells["rows"] == len(readings) == len(cells["readings"]), (cells["rows"], len(readings), len(cells["readings"]))
ids = {reading["iot_sensor_id"] for reading in readings}
assert len(cells["newest"]) == len(ids)
assert set(cells["sensors"]["iot_sensor_id"]) == {
    reading["iot_sensor_id"] for reading in readings if reading["location"] == "plant-1"
}
names = {name for reading in readings for name in reading.get("other_metrics", {})}
assert set(cells["others"].columns) == names and names, (cells["others"].columns, names)
print("the page is right")
