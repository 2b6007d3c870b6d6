"""Readings of the wire format on stdin become the nested messages of benches/nested.toml: KEY, a tab, JSON."""
import json
import sys
from datetime import datetime

for line in sys.stdin:
    reading = json.loads(line)
    moment = reading["recorded_timestamp"]
    if isinstance(moment, str):
        moment = round(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)
    climate = {}
    if reading.get("temperature") is not None:
        climate["temp_f"] = round(reading["temperature"] * 1.8 + 32, 3)
    if reading.get("humidity") is not None:
        climate["rh"] = reading["humidity"]
    if reading.get("pressure") is not None:
        climate["kpa"] = round(reading["pressure"] / 10, 5)
    data = {"climate": climate, "states": dict(reading.get("other_metrics") or {})}
    if reading.get("motion_detected") is not None:
        data["states"]["motion_detected"] = reading["motion_detected"]
    for name, short in ("light_level", "light"), ("gas_concentration", "gas"):
        if reading.get(name) is not None:
            data[short] = reading[name]
    device = {"id": reading["iot_sensor_id"], "site": reading["location"], "model": reading["device_type"]}
    message = {"device": device, "time": {"epoch": moment}, "data": data}
    print(reading["iot_sensor_id"], json.dumps(message, separators=(",", ":")), sep="\t")
