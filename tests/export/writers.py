"""Writes the same readings with pandas, pyarrow, polars and DuckDB, in each format, compression and type that they have for
them, and as Excel writes CSV; or compares what iotctl has imported with them.

Usage: writers.py write FOLDER
       writers.py compare FOLDER READINGS.ndjson     (as `iotctl query --format ndjson` prints them)

Each file is a location of its own, by its folder: FOLDER/location=NAME/NAME.parquet.
"""

import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 5
START = datetime(2026, 3, 7, 12, 0, 0, 250_000, timezone.utc)
SENSORS = [str(uuid.UUID(int=number + 1)) for number in range(ROWS)]
TIMES = [START + timedelta(seconds=number) for number in range(ROWS)]
TEMPERATURES = [21.5, -3.25, None, 0.5, 1013.25]
MOTIONS = [True, False, None, True, False]
RPMS = [7.0, None, 1200.5, 3.0, 0.25]


def expected() -> dict:
    rows = zip(SENSORS, TIMES, TEMPERATURES, MOTIONS, RPMS)
    return {(sensor, at): (temperature, motion, rpm) for sensor, at, temperature, motion, rpm in rows}


def columns() -> dict:
    return {
        "device_type": ["thermostat"] * ROWS,
        "iot_sensor_id": SENSORS,
        "recorded_timestamp": TIMES,
        "temperature": TEMPERATURES,
        # Nothing was measured.
        "humidity": [None] * ROWS,
        "motion_detected": MOTIONS,
        "rpm": RPMS,
    }


def naive() -> list:
    return [at.replace(tzinfo=None) for at in TIMES]


class Files:
    def __init__(self, folder: str):
        self.folder = Path(folder)

    def path(self, name: str, extension: str) -> str:
        folder = self.folder / f"location={name}"
        folder.mkdir(parents=True)
        return str(folder / f"{name}.{extension}")

    def text(self, name: str, text: str, encoding: str = "utf-8") -> None:
        with open(self.path(name, "csv"), "w", encoding=encoding, newline="") as file:
            file.write(text)


def write(folder: str) -> None:
    files = Files(folder)
    write_pandas(files)
    write_arrow(files)
    write_polars(files)
    write_duckdb(files)
    write_excel(files)


def write_pandas(files: Files) -> None:
    frame = pd.DataFrame(columns())
    for compression in ["snappy", "gzip", "brotli", "lz4", "zstd", None]:
        frame.to_parquet(files.path(f"pandas-{compression}", "parquet"), compression=compression)
    # What comes back from a CSV: text and numbers, truth as 1.0 and 0.0; and an index with a name.
    changed = frame.assign(
        motion_detected=[None if motion is None else float(motion) for motion in MOTIONS],
        recorded_timestamp=naive(),
        device_type=pd.Categorical(frame["device_type"]),
    )
    changed.set_index(pd.Index([3, 1, 4, 1, 5])).to_parquet(files.path("pandas-index", "parquet"))
    frame.to_csv(files.path("pandas-index-csv", "csv"))
    frame.to_csv(files.path("pandas-tab", "csv"), sep="\t", na_rep="NA")
    frame.to_csv(files.path("pandas-null", "csv"), index=False, na_rep="null")
    frame.to_csv(files.path("pandas-decimal", "csv"), index=False, sep=";", decimal=",", na_rep="\\N")
    changed.to_csv(files.path("pandas-mark", "csv"), encoding="utf-8-sig", na_rep="NaN")


def write_arrow(files: Files) -> None:
    text, moment = pa.large_string(), pa.timestamp("ns")
    # Times with an odd number of nanoseconds are cut to milliseconds.
    schema = pa.schema(
        [
            ("device_type", pa.dictionary(pa.int32(), pa.string())),
            ("iot_sensor_id", text),
            ("recorded_timestamp", moment),
            ("temperature", pa.decimal128(20, 6)),
            ("humidity", pa.null()),
            ("motion_detected", pa.bool_()),
            ("other_metrics", pa.map_(text, pa.float32())),
        ]
    )
    data = columns()
    data["recorded_timestamp"] = naive()
    data["temperature"] = [None if value is None else Decimal(str(value)) for value in TEMPERATURES]
    data["other_metrics"] = [[] if rpm is None else [("rpm", rpm)] for rpm in data.pop("rpm")]
    table = pa.table(data, schema=schema)
    pq.write_table(table, files.path("arrow-decimal", "parquet"))
    # As Spark and Hive write times, and decimals as whole numbers.
    options = dict(use_deprecated_int96_timestamps=True, store_decimal_as_integer=True, data_page_version="2.0")
    pq.write_table(table, files.path("arrow-int96", "parquet"), **options)
    plain = table.set_column(0, "device_type", pa.array(data["device_type"], pa.string_view()))
    plain = plain.set_column(3, "temperature", pa.array(TEMPERATURES, pa.float32()))
    pq.write_table(plain, files.path("arrow-view", "parquet"), use_dictionary=False)
    structs = [{"rpm": rpm, "co2": None} for rpm in RPMS]
    plain = plain.set_column(6, "other_metrics", pa.array(structs))
    pq.write_table(plain, files.path("arrow-struct", "parquet"), version="1.0", coerce_timestamps="ms")


def write_polars(files: Files) -> None:
    frame = pl.DataFrame(columns())
    for compression in ["snappy", "gzip", "brotli", "lz4", "zstd", "uncompressed"]:
        frame.write_parquet(files.path(f"polars-{compression}", "parquet"), compression=compression)
    # NaN is a value for polars, and stands for a missing one in files.
    changed = frame.with_columns(
        pl.col("device_type").cast(pl.Categorical),
        pl.col("temperature").fill_null(float("nan")),
        pl.col("rpm").cast(pl.Decimal(18, 4)),
        pl.col("recorded_timestamp").dt.replace_time_zone(None).dt.cast_time_unit("ns"),
    )
    changed.write_parquet(files.path("polars-changed", "parquet"))
    frame.write_csv(files.path("polars-csv", "csv"))
    frame.write_csv(files.path("polars-semicolon", "csv"), separator=";", null_value="-")
    frame.write_ndjson(files.path("polars-ndjson", "ndjson"))


def write_duckdb(files: Files) -> None:
    frame = pa.table(columns())
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("frame", frame)
    for compression in ["snappy", "gzip", "brotli", "lz4_raw", "zstd", "uncompressed"]:
        path = files.path(f"duckdb-{compression}", "parquet")
        database.execute(f"COPY frame TO '{path}' (FORMAT parquet, COMPRESSION {compression})")
    typed = (
        "SELECT device_type::ENUM ('thermostat') AS device_type, iot_sensor_id::UUID AS iot_sensor_id, "
        "recorded_timestamp::TIMESTAMP AS recorded_timestamp, temperature::DECIMAL(9, 3) AS temperature, "
        "humidity::DOUBLE AS humidity, motion_detected::UTINYINT AS motion_detected, "
        "CASE WHEN rpm IS NULL THEN NULL ELSE MAP {'rpm': rpm::FLOAT} END AS other_metrics FROM frame"
    )
    database.execute(f"COPY ({typed}) TO '{files.path('duckdb-typed', 'parquet')}' (FORMAT parquet)")
    database.execute(f"COPY frame TO '{files.path('duckdb-csv', 'csv')}' (HEADER)")
    database.execute(f"COPY frame TO '{files.path('duckdb-tab', 'csv')}' (HEADER, DELIMITER '\\t', NULLSTR '\\N')")


def write_excel(files: Files) -> None:
    """As the manual of Excel describes its three kinds of CSV; there is no Excel to write them with."""
    german = ["device_type;iot_sensor_id;recorded_timestamp;temperature;humidity;motion_detected;rpm"]
    for at, sensor, temperature, motion, rpm in zip(TIMES, SENSORS, TEMPERATURES, MOTIONS, RPMS):
        number = lambda value: "" if value is None else str(value).replace(".", ",")
        truth = {True: "TRUE", False: "FALSE", None: ""}[motion]
        stamp = at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        german.append(f"thermostat;{sensor};{stamp};{number(temperature)};#N/A;{truth};{number(rpm)}")
    text = "".join(line + "\r\n" for line in german)
    files.text("excel-mark", text, "utf-8-sig")
    files.text("excel-sep", "sep=;\r\n" + text)
    files.text("excel-unicode", text.replace(";", "\t"), "utf-16")


def compare(folder: str, readings: str) -> None:
    found: dict[str, dict] = {}
    for line in open(readings):
        reading = json.loads(line)
        at = datetime.fromisoformat(reading["recorded_timestamp"].replace("Z", "+00:00"))
        values = (
            reading.get("temperature"),
            reading.get("motion_detected"),
            (reading.get("other_metrics") or {}).get("rpm"),
        )
        if reading.get("humidity") is not None or set(reading.get("other_metrics") or {}) - {"rpm"}:
            raise SystemExit(f"{reading['location']} has what its file has not: {line}")
        found.setdefault(reading["location"], {})[reading["iot_sensor_id"], at] = values
    names = sorted(path.name.removeprefix("location=") for path in Path(folder).iterdir())
    for name in names:
        if found.get(name) != expected():
            raise SystemExit(f"{name}: {found.get(name)} instead of {expected()}")
    print(f"{len(names)} files of other programs, all with the readings that were written")


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](*sys.argv[2:])
