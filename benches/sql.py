"""Asks 25 questions of iotctl sql (with and without rollups) and of DuckDB over the same readings; compares the answers."""

import datetime
import json
import math
import os
import queue
import statistics
import subprocess
import sys
import threading
import time

import duckdb

parquet, rounds, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]

database = duckdb.connect()
database.execute("SET TimeZone = 'UTC'; SET threads = 2")
database.execute(f"CREATE VIEW readings AS SELECT * FROM '{parquet}'")


def peak(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


class Asked:
    """A session of iotctl sql."""

    def __init__(self, *more):
        self.process = subprocess.Popen(
            [*program, "sql", "--timeout", "1h", "--format", "ndjson", *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        self.said = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.send("SELECT 'ready' AS marker")

    def listen(self):
        for line in self.process.stderr:
            self.said.put(line)
        self.said.put(None)

    def send(self, statement):
        began = time.perf_counter()
        self.process.stdin.write(f"{statement};\nSELECT 'end' AS marker;\n")
        self.process.stdin.flush()
        rows = []
        for line in self.process.stdout:
            row = json.loads(line)
            if row == {"marker": "end"}:
                return rows, (time.perf_counter() - began) * 1000
            rows.append(row)
        sys.exit(f"{statement}\n{self.said.get()}")

    def plan(self, statement):
        rows, _ = self.send(f"EXPLAIN {statement}")
        return "rollups" if any("SummaryScan" in row.get("plan", "") for row in rows) else "raw rows"


low, high = database.execute("SELECT min(recorded_timestamp), max(recorded_timestamp) FROM readings").fetchone()
sensor = database.execute("SELECT min(iot_sensor_id) FROM readings").fetchone()[0]
sensors = [row[0] for row in database.execute(
    "SELECT DISTINCT iot_sensor_id FROM readings ORDER BY 1 LIMIT 8").fetchall()]
place = database.execute("SELECT min(location) FROM readings").fetchone()[0]
hour = datetime.timedelta(hours=1)
middle = (low + (high - low) / 2).replace(minute=0, second=0, microsecond=0)
end = high.replace(minute=0, second=0, microsecond=0)


def between(start, stop):
    return f"recorded_timestamp >= '{start:%Y-%m-%dT%H:%M:%SZ}' AND recorded_timestamp < '{stop:%Y-%m-%dT%H:%M:%SZ}'"


one, eight = f"iot_sensor_id = '{sensor}'", "iot_sensor_id IN (" + ", ".join(f"'{name}'" for name in sensors) + ")"
last_hour, last_12, last_day = (between(end - count * hour, end) for count in (1, 12, 24))
odd = between(middle - 11.5 * hour, middle + 12.25 * hour)
minute = "time_bucket(interval '1 minute', recorded_timestamp)"
by_hour = "time_bucket(interval '1 hour', recorded_timestamp)"
by_day = "time_bucket(interval '1 day', recorded_timestamp)"
in_berlin = "time_bucket(interval '1 day', recorded_timestamp, 'Europe/Berlin')"
five = ", ".join(f"avg({name}) AS avg_{name}" for name in ("temperature", "humidity", "pressure", "light_level", "gas_concentration"))
latest = "SELECT iot_sensor_id, temperature, humidity FROM {} ORDER BY iot_sensor_id"
newest = "(SELECT DISTINCT ON (iot_sensor_id) * FROM readings ORDER BY iot_sensor_id, recorded_timestamp DESC)"
hot = "(SELECT quantile_cont(temperature, 0.95) FROM readings)"
limit = database.execute(f"SELECT {hot}").fetchone()[0]

# Name, statement, and that of DuckDB where it is another.
QUESTIONS = [
    ("single-groupby-1-1-1", f"SELECT {minute}, max(temperature) FROM readings WHERE {one} AND {last_hour} GROUP BY 1"),
    ("single-groupby-1-1-12", f"SELECT {minute}, max(temperature) FROM readings WHERE {one} AND {last_12} GROUP BY 1"),
    ("single-groupby-1-8-1", f"SELECT {minute}, max(temperature) FROM readings WHERE {eight} AND {last_hour} GROUP BY 1"),
    ("single-groupby-5-1-1", f"SELECT {minute} AS bucket, {five} FROM readings WHERE {one} AND {last_hour} GROUP BY 1"),
    ("single-groupby-5-1-12", f"SELECT {minute} AS bucket, {five} FROM readings WHERE {one} AND {last_12} GROUP BY 1"),
    ("single-groupby-5-8-1", f"SELECT {minute} AS bucket, {five} FROM readings WHERE {eight} AND {last_hour} GROUP BY 1"),
    ("cpu-max-all-1", f"SELECT {by_hour} AS bucket, {five.replace('avg(', 'max(')} FROM readings WHERE {one} AND {last_day} GROUP BY 1"),
    ("cpu-max-all-8", f"SELECT {by_hour} AS bucket, {five.replace('avg(', 'max(')} FROM readings WHERE {eight} AND {last_day} GROUP BY 1"),
    ("double-groupby-1", f"SELECT {by_hour}, iot_sensor_id, avg(temperature) FROM readings WHERE {last_12} GROUP BY 1, 2"),
    ("double-groupby-5", f"SELECT {by_hour} AS bucket, iot_sensor_id, {five} FROM readings WHERE {last_12} GROUP BY 1, 2"),
    ("double-groupby-day", f"SELECT {by_day}, iot_sensor_id, avg(temperature), max(temperature) FROM readings GROUP BY 1, 2"),
    ("double-groupby-odd", f"SELECT {by_hour}, iot_sensor_id, avg(temperature) FROM readings WHERE {odd} GROUP BY 1, 2"),
    ("location-by-hour", f"SELECT {by_hour}, location, avg(temperature), min(humidity) FROM readings GROUP BY 1, 2"),
    ("location-by-day-berlin", f"SELECT {in_berlin}, location, avg(temperature), stddev(temperature) FROM readings GROUP BY 1, 2"),
    ("type-by-hour", f"SELECT date_trunc('hour', recorded_timestamp), device_type, avg(pressure) FROM readings GROUP BY 1, 2"),
    ("everything", f"SELECT count(temperature), sum(temperature), avg(temperature), min(temperature), max(temperature) FROM readings"),
    ("everything-odd", f"SELECT count(temperature), avg(temperature) FROM readings WHERE {odd}"),
    ("lastpoint", latest.format("latest"), latest.format(newest)),
    ("lastpoint-location", latest.format(f"(SELECT * FROM latest WHERE location = '{place}')"), latest.format(f"(SELECT * FROM {newest} WHERE location = '{place}')")),
    ("high-cpu-1", f"SELECT recorded_timestamp, temperature FROM readings WHERE temperature > {limit!r} AND {one} AND {last_12}"),
    ("high-cpu-all", f"SELECT iot_sensor_id, count(*), max(temperature) FROM readings WHERE temperature > {limit!r} AND {last_12} GROUP BY 1"),
    ("groupby-orderby-limit", f"SELECT {minute} AS at, max(temperature) FROM readings WHERE {between(low, end)} GROUP BY 1 ORDER BY 1 DESC LIMIT 5"),
    ("newest-rows", "SELECT recorded_timestamp, iot_sensor_id, humidity FROM readings ORDER BY recorded_timestamp DESC, iot_sensor_id DESC LIMIT 10"),
    ("breakdown-frequency", f"SELECT location, device_type, count(*), count(temperature) FROM readings WHERE {last_day} GROUP BY 1, 2"),
    ("breakdown-daily-peaks", f"SELECT location, avg(peak) FROM (SELECT location, {by_day} AS day, iot_sensor_id, max(temperature) AS peak FROM readings GROUP BY 1, 2, 3) GROUP BY 1"),
]


def plain(value):
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return value


def same(left, right):
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        # What is stored is a 32-bit float; DuckDB reads what iotctl has written.
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return left == right


def compare(name, ours, theirs):
    key = lambda row: [(value is None, str(value)) if not isinstance(value, float) else (False, f"{value:.6g}") for value in row]
    ours, theirs = sorted(ours, key=key), sorted(theirs, key=key)
    if len(ours) != len(theirs):
        sys.exit(f"{name}: {len(ours)} rows, DuckDB has {len(theirs)}")
    for left, right in zip(ours, theirs):
        if not all(map(same, left, right)):
            sys.exit(f"{name}: {left}, DuckDB has {right}")


sessions = {"rollups": Asked(), "raw": Asked("--raw")}
count = database.execute("SELECT count(*) FROM readings").fetchone()[0]
print(f"{count:,} readings, {len(QUESTIONS)} questions, median of {rounds} rounds in ms\n")
print(f"| {'question':24} | {'rows':>7} | {'from':8} | {'iotctl sql':>10} | {'--raw':>9} | {'DuckDB':>9} |")
print(f"|{'-' * 26}|{'-' * 8}:|{'-' * 10}|{'-' * 11}:|{'-' * 10}:|{'-' * 10}:|")
for name, statement, *other in QUESTIONS:
    took = {"rollups": [], "raw": [], "DuckDB": []}
    for _ in range(rounds):
        began = time.perf_counter()
        theirs = database.execute(other[0] if other else statement)
        names = [column[0] for column in theirs.description]
        theirs = [tuple(map(plain, row)) for row in theirs.fetchall()]
        took["DuckDB"].append((time.perf_counter() - began) * 1000)
        for which, session in sessions.items():
            # Without rollups, a question over all readings takes minutes.
            if which == "raw" and " WHERE " not in statement and not os.environ.get("RAW"):
                took[which].append(math.nan)
                continue
            rows, milliseconds = session.send(statement)
            took[which].append(milliseconds)
            # A value that is missing has no key in JSON, and a column without a name has another one in each program.
            width = len(names)
            columns = list(dict.fromkeys(key for row in rows for key in row))
            if set(columns) <= set(names):
                columns = names
            if rows and len(columns) != width:
                sys.exit(f"{name}: {len(columns)} columns, DuckDB has {width}")
            compare(f"{name} ({which})", [tuple(row.get(column) for column in columns) for row in rows], theirs)
    middle_of = {which: statistics.median(values) for which, values in took.items()}
    source = sessions["rollups"].plan(statement)
    print(f"| {name:24} | {len(theirs):>7,} | {source:8} | {middle_of['rollups']:>10,.1f} | {middle_of['raw']:>9,.1f} | {middle_of['DuckDB']:>9,.1f} |", flush=True)
print(f"\npeak memory: iotctl sql {peak(sessions['rollups'].process.pid):,.0f} MiB, --raw {peak(sessions['raw'].process.pid):,.0f} MiB, "
      f"Python with DuckDB {peak('self'):,.0f} MiB")
