"""Compares exported files, as DuckDB reads them, with readings as `iotctl query` prints them.

Usage: compare.py READINGS.ndjson FOLDER (of lake/, one.parquet, csv/ and ndjson/)
"""

import json
import sys
from datetime import datetime

import duckdb

COLUMNS = ["temperature", "humidity", "pressure", "motion_detected", "light_level", "gas_concentration"]
TYPES = {
    "location": "VARCHAR",
    "device_type": "VARCHAR",
    "iot_sensor_id": "VARCHAR",
    "recorded_timestamp": "TIMESTAMP WITH TIME ZONE",
    **{column: "BOOLEAN" if column == "motion_detected" else "DOUBLE" for column in COLUMNS},
    "other_metrics": "MAP(VARCHAR, DOUBLE)",
    "states": "MAP(VARCHAR, VARCHAR)",
    "sensor_name": "VARCHAR",
}


def comparable(value):
    # JSON has one kind of number; true and false are none.
    return value if value is None or isinstance(value, bool) else float(value)


def load(path: str) -> dict:
    readings = {}
    for line in open(path):
        reading = json.loads(line)
        at = datetime.fromisoformat(reading["recorded_timestamp"].replace("Z", "+00:00"))
        key = (reading["location"], reading["device_type"], reading["iot_sensor_id"], round(at.timestamp() * 1000))
        readings[key] = values([reading.get(column) for column in COLUMNS], reading.get("other_metrics"))
    return readings


def values(measured: list, others: dict | None) -> tuple:
    others = {name: float(value) for name, value in (others or {}).items() if value is not None}
    return (*map(comparable, measured), others)


def differ(text: str):
    raise SystemExit(f"DuckDB finds a difference in {text}")


def compare(name: str, relation: str, expected: dict, others: str = "other_metrics") -> None:
    columns = ", ".join(COLUMNS)
    rows = duckdb.sql(
        f"SELECT location, device_type, CAST(iot_sensor_id AS VARCHAR), epoch_ms(recorded_timestamp), {columns}, {others} "
        f"FROM {relation}"
    ).fetchall()
    if len(rows) != len(expected):
        differ(f"{name}: {len(rows)} rows instead of {len(expected)}")
    found = {}
    for location, device_type, sensor, at, *measured, others in rows:
        others = json.loads(others) if isinstance(others, str) else others
        found[location, device_type, sensor, at] = values(measured, others)
    for key, measured in expected.items():
        if found.get(key) != measured:
            differ(f"{name}, {key}: {found.get(key)} instead of {measured}")
    print(f"{name}: {len(rows)} readings in DuckDB {duckdb.__version__}, all equal")


def main() -> None:
    readings, folder = sys.argv[1:]
    expected = load(readings)
    if not expected:
        raise SystemExit("no readings to compare")
    parquet = {
        "partitioned Parquet": f"read_parquet('{folder}/lake/**/*.parquet', hive_partitioning = true)",
        "one Parquet file": f"read_parquet('{folder}/one.parquet')",
    }
    for name, relation in parquet.items():
        types = {column: str(kind) for column, kind, *_ in duckdb.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
        # The day is a folder's alone.
        types.pop("day", None)
        if types != TYPES:
            differ(f"the types of {name}: {types} instead of {TYPES}")
        compare(name, relation, expected)
    compare("csv", f"read_csv('{folder}/csv/**/*.csv')", expected)
    compare("ndjson", f"read_ndjson('{folder}/ndjson/**/[!_]*.ndjson')", expected, "CAST(to_json(other_metrics) AS VARCHAR)")


if __name__ == "__main__":
    main()
