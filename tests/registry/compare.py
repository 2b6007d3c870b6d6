"""Compares what is stored, as `iotctl query` prints it, with what was sent: each reading once, each value equal.

Usage: compare.py EXPECTED.ndjson STORED.ndjson
"""

import json
import sys
from datetime import datetime


def numbers(values) -> dict:
    return {name: float(value) for name, value in (values or {}).items()}


def single(value):
    """As a column of 32 bits has it."""
    return None if value is None else round(value, 3)


wanted = {}
for line in open(sys.argv[1]):
    it = json.loads(line)
    key = (it["location"], it["device_type"], it["sensor"], it["at"])
    wanted[key] = (single(it["temperature"]), single(it["humidity"]), numbers(it["other_metrics"]), it["states"])
found, lines = {}, 0
for line in open(sys.argv[2]):
    it = json.loads(line)
    at = datetime.fromisoformat(it["recorded_timestamp"].replace("Z", "+00:00"))
    key = (it["location"], it["device_type"], it["iot_sensor_id"], round(at.timestamp() * 1000))
    values = (single(it.get("temperature")), single(it.get("humidity")), numbers(it.get("other_metrics")))
    found[key] = (*values, it.get("states") or {})
    lines += 1
missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
different = [key for key in wanted.keys() & found.keys() if wanted[key] != found[key]]
for title, keys in (("missing", missing), ("not sent", extra), ("different", different)):
    for key in sorted(keys)[:3]:
        print(f"{title}: {key}: sent {wanted.get(key)}, stored {found.get(key)}")
if missing or extra or different or lines != len(found):
    raise SystemExit(f"stored: {len(missing)} missing, {len(extra)} not sent, {len(different)} different of {len(wanted)}")
print(f"{len(found)} readings are equal")
