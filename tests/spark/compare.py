"""Compares a Spark job's Parquet files and table with a brute force over readings as iotctl prints them.

Usage: compare.py READINGS.ndjson FOLDER CASSANDRA KEYSPACE JOB (the table has the job's name)
"""

import json
import math
import sys
from collections import defaultdict
from datetime import datetime, timezone

import pyarrow.parquet as parquet
from cassandra.cluster import Cluster
from cassandra.query import dict_factory

# How many values before it a value of the training set looks back on.
WINDOW = 60
METRICS = ["temperature", "humidity", "pressure", "light_level", "gas_concentration"]


def load(path: str):
    for line in open(path):
        reading = json.loads(line)
        at = datetime.fromisoformat(reading["recorded_timestamp"].replace("Z", "+00:00"))
        measured = {name: reading[name] for name in METRICS if name in reading} | reading.get("other_metrics", {})
        sensor = (reading["location"], reading["device_type"], reading["iot_sensor_id"])
        yield sensor, at, measured, reading.get("motion_detected")


def same(name, expected, found) -> None:
    if expected is None or found is None or isinstance(expected, (int, datetime)):
        equal = expected == found
    else:
        # Sums in another order differ in the last digits.
        equal = math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    if not equal:
        raise SystemExit(f"{name}: expected {expected}, Spark says {found}")


def near(name, expected, found) -> None:
    """For what differences of nearly equal numbers enter."""
    if expected is None or found is None:
        same(name, expected, found)
    elif not math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-6):
        raise SystemExit(f"{name}: expected {expected}, Spark says {found}")


def deviation(values: list[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def compare_aggregates(readings, rows: list[dict], unit: str) -> tuple[int, int]:
    series = defaultdict(list)
    floor = dict(minute=0, second=0, microsecond=0) | (dict(hour=0) if unit == "day" else {})
    for sensor, at, measured, _ in readings:
        for metric, value in measured.items():
            series[*sensor, metric, at.replace(**floor)].append(value)
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
        near(f"{key} stddev", deviation(values, mean), row["stddev"])
    return len(rows), 6 * len(rows)


def compare_health(readings, rows: list[dict]) -> tuple[int, int]:
    sensors = defaultdict(list)
    for sensor, at, measured, motion in readings:
        sensors[sensor].append((at, measured, motion))
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


def compare_training_set(readings, rows: list[dict]) -> tuple[int, int]:
    series = defaultdict(list)
    for sensor, at, measured, _ in readings:
        for metric, value in measured.items():
            series[*sensor, metric].append((at, value))
    expected = {}
    for key, history in series.items():
        history.sort()
        for index, (at, value) in enumerate(history):
            expected[*key, at] = (value, history[max(0, index - WINDOW) : index])
    same("training set: rows", len(expected), len(rows))
    for row in rows:
        at = utc(row["recorded_timestamp"])
        key = (row["location"], row["device_type"], row["iot_sensor_id"], row["metric"], at)
        if key not in expected:
            raise SystemExit(f"Spark has {key}, and iotctl does not")
        value, earlier = expected.pop(key)
        before = [value for _, value in earlier]
        mean = math.fsum(before) / len(before) if before else None
        spread = deviation(before, mean) if before else None
        same(f"{key} value", value, row["value"])
        same(f"{key} previous", before[-1] if before else None, row["previous"])
        since = (at - earlier[-1][0]).total_seconds() if earlier else None
        same(f"{key} seconds since", since, row["seconds_since_previous"])
        same(f"{key} earlier", len(before), row["earlier_count"])
        same(f"{key} mean", mean, row["earlier_mean"])
        near(f"{key} stddev", spread, row["earlier_stddev"])
        same(f"{key} change", value - before[-1] if before else None, row["change"])
        near(f"{key} z", (value - mean) / spread if spread else None, row["z"])
        same(f"{key} hour", at.hour, row["hour_of_day"])
        # Spark's week begins with Sunday, as 1.
        same(f"{key} day", at.isoweekday() % 7 + 1, row["day_of_week"])
    return len(rows), 10 * len(rows)


JOBS = {
    "hourly_aggregates": lambda readings, rows: compare_aggregates(readings, rows, "hour"),
    "daily_aggregates": lambda readings, rows: compare_aggregates(readings, rows, "day"),
    "fleet_health": compare_health,
    "anomaly_training_set": compare_training_set,
}


def table(address: str, keyspace: str, name: str) -> list[dict]:
    with Cluster([address]) as cluster:
        session = cluster.connect(keyspace)
        session.row_factory = dict_factory
        return list(session.execute(f"SELECT * FROM {name}"))


def main() -> None:
    path, folder, address, keyspace, job = sys.argv[1:]
    readings = list(load(path))
    if not readings:
        raise SystemExit("no readings to compare")
    for where, rows in [
        ("Parquet", parquet.read_table(folder).to_pylist()),
        ("table", table(address, keyspace, job)),
    ]:
        count, values = JOBS[job](readings, rows)
        print(f"{job}, {where}: {count} rows, {values} values of {len(readings)} readings, all equal")


if __name__ == "__main__":
    main()
