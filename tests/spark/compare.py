"""Compares the results of the Spark jobs with a brute force over readings as iotctl prints them."""

import json
import math
import struct
import sys
from collections import defaultdict
from datetime import datetime, timezone

import pyarrow.parquet as parquet

METRICS = ["temperature", "humidity", "pressure", "light_level", "gas_concentration"]


def as_float32(number: float) -> float:
    return struct.unpack("f", struct.pack("f", number))[0]


def load(path: str):
    for line in open(path):
        reading = json.loads(line)
        at = datetime.fromisoformat(reading["recorded_timestamp"].replace("Z", "+00:00"))
        measured = {name: reading[name] for name in METRICS if name in reading} | reading.get("other_metrics", {})
        sensor = (reading["location"], reading["device_type"], reading["iot_sensor_id"])
        yield sensor, at, {name: as_float32(value) for name, value in measured.items()}, reading.get("motion_detected")


def same(name, expected, found) -> None:
    if expected is None or found is None or isinstance(expected, (int, datetime)):
        equal = expected == found
    else:
        # Sums in another order differ in the last digits.
        equal = math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    if not equal:
        raise SystemExit(f"{name}: expected {expected}, Spark says {found}")


def utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def compare_aggregates(readings, folder: str, unit: str) -> tuple[int, int]:
    series = defaultdict(list)
    floor = dict(minute=0, second=0, microsecond=0) | (dict(hour=0) if unit == "day" else {})
    for sensor, at, measured, _ in readings:
        for metric, value in measured.items():
            series[*sensor, metric, at.replace(**floor)].append(value)
    rows = parquet.read_table(folder).to_pylist()
    same(f"{unit}: rows", len(series), len(rows))
    for row in rows:
        key = (row["location"], row["device_type"], row["iot_sensor_id"], row["metric"], utc(row[unit]))
        values = series.pop(key, None)
        if values is None:
            raise SystemExit(f"Spark has {key}, and iotctl does not")
        mean = math.fsum(values) / len(values)
        same(f"{key} count", len(values), row["count"])
        same(f"{key} min", min(values), row["min"])
        same(f"{key} max", max(values), row["max"])
        same(f"{key} sum", math.fsum(values), row["sum"])
        same(f"{key} mean", mean, row["mean"])
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        if not math.isclose(deviation, row["stddev"], rel_tol=1e-6, abs_tol=1e-6):
            raise SystemExit(f"{key} stddev: expected {deviation}, Spark says {row['stddev']}")
    return len(rows), 6 * len(rows)


def compare_health(readings, folder: str) -> tuple[int, int]:
    sensors = defaultdict(list)
    for sensor, at, measured, motion in readings:
        sensors[sensor].append((at, measured, motion))
    rows = parquet.read_table(folder).to_pylist()
    same("health: rows", len(sensors), len(rows))
    for row in rows:
        key = (row["location"], row["device_type"], row["iot_sensor_id"])
        history = sorted(sensors[key], key=lambda reading: reading[0])
        moments = [at for at, _, _ in history]
        gaps = sorted((later - earlier).total_seconds() for earlier, later in zip(moments, moments[1:]))
        middle = len(gaps) // 2
        median = None if not gaps else gaps[middle] if len(gaps) % 2 else (gaps[middle - 1] + gaps[middle]) / 2
        motions = [float(motion) for _, _, motion in history if motion is not None]
        same(f"{key} readings", len(history), row["readings"])
        same(f"{key} first", moments[0], utc(row["first_reading"]))
        same(f"{key} last", moments[-1], utc(row["last_reading"]))
        same(f"{key} median", median, row["median_interval_seconds"])
        same(f"{key} longest gap", gaps[-1] if gaps else None, row["longest_gap_seconds"])
        same(f"{key} motion", math.fsum(motions) / len(motions) if motions else None, row["motion_share"])
        for metric in METRICS:
            count = sum(metric in measured for _, measured, _ in history)
            share = 1 - count / len(history) if count else None
            same(f"{key} {metric} missing", share, row[f"{metric}_missing_share"])
    return len(rows), (6 + len(METRICS)) * len(rows)


def main() -> None:
    work = sys.argv[1]
    readings = list(load(f"{work}/readings.ndjson"))
    if not readings:
        raise SystemExit("no readings to compare")
    print(f"{len(readings)} readings")
    for name, (rows, values) in [
        ("hourly_aggregates", compare_aggregates(readings, f"{work}/hourly_aggregates", "hour")),
        ("daily_aggregates", compare_aggregates(readings, f"{work}/daily_aggregates", "day")),
        ("fleet_health", compare_health(readings, f"{work}/fleet_health")),
    ]:
        print(f"{name}: {rows} rows, {values} values, all equal")


if __name__ == "__main__":
    main()
