"""PostgreSQL's clients for Python against `iotctl serve`: each must find what `iotctl query` finds.

Usage: clients.py PORT READINGS.ndjson [HOST]
"""

import asyncio
import datetime
import json
import socket
import struct
import sys
import threading
import time

import asyncpg
import pandas
import psycopg
import sqlalchemy

HOST = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
PORT = int(sys.argv[1])
ROWS = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
DSN = f"host={HOST} port={PORT} dbname=iotctl user=me"


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def at(row):
    value = row["recorded_timestamp"]
    if isinstance(value, str):
        return moment(value)
    return datetime.datetime.fromtimestamp(value / 1000, datetime.timezone.utc)


ROWS.sort(key=lambda row: (at(row), row["iot_sensor_id"]))
LOCATION = ROWS[0]["location"]
HERE = [row for row in ROWS if row["location"] == LOCATION]
MIDDLE = at(ROWS[len(ROWS) // 2])
EXPECTED = [(row["iot_sensor_id"], at(row), row.get("temperature")) for row in HERE if at(row) >= MIDDLE]
COLUMNS = "iot_sensor_id, recorded_timestamp, temperature"
ORDER = "ORDER BY recorded_timestamp, iot_sensor_id"


def same(name, found, expected=None):
    expected = EXPECTED if expected is None else expected
    found = [tuple(row) for row in found]
    if found != expected:
        wrong = next((pair for pair in zip(found, expected) if pair[0] != pair[1]), None)
        sys.exit(f"{name}: {len(found)} rows instead of {len(expected)}, first difference {wrong}")
    print(f"{name}: {len(found)} rows equal")


def with_psycopg():
    with psycopg.connect(DSN) as connection:
        query = f"SELECT {COLUMNS} FROM readings WHERE location = %s AND recorded_timestamp >= %s {ORDER}"
        same("psycopg, text", connection.execute(query, (LOCATION, MIDDLE)).fetchall())
        cursor = connection.cursor(binary=True)
        same("psycopg, binary", cursor.execute(query, (LOCATION, MIDDLE)).fetchall())
        for _ in range(7):
            # From the fifth time on it is a prepared statement.
            same("psycopg, prepared", connection.execute(query, (LOCATION, MIDDLE)).fetchall())
    with psycopg.connect(DSN, autocommit=True) as connection:
        try:
            connection.execute("DELETE FROM readings")
            sys.exit("a DELETE was not refused")
        except psycopg.errors.ReadOnlySqlTransaction:
            pass
        try:
            connection.execute("SET statement_timeout = '1s'")
            connection.execute("SELECT nothing FROM readings")
            sys.exit("an unknown column was not refused")
        except psycopg.Error:
            pass
        assert connection.execute("SELECT 1").fetchone() == (1,), "the session goes on after an error"


def with_sqlalchemy():
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://me@{HOST}:{PORT}/iotctl")
    query = sqlalchemy.text(
        f"SELECT {COLUMNS} FROM readings WHERE location = :location AND recorded_timestamp >= :start {ORDER}"
    )
    with engine.connect() as connection:
        frame = pandas.read_sql(query, connection, params={"location": LOCATION, "start": MIDDLE})
    found = [
        (row.iot_sensor_id, row.recorded_timestamp.to_pydatetime(), None if pandas.isna(row.temperature) else row.temperature)
        for row in frame.itertuples()
    ]
    same("pandas over SQLAlchemy", found)
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    if not {"readings", "latest", "sensors", "groups", "hourly", "daily"} <= tables:
        sys.exit(f"SQLAlchemy finds the tables {tables}")


async def with_asyncpg():
    connection = await asyncpg.connect(host=HOST, port=PORT, user="me", database="iotctl")
    query = f"SELECT {COLUMNS} FROM readings WHERE location = $1 AND recorded_timestamp >= $2 {ORDER}"
    same("asyncpg", [tuple(row.values()) for row in await connection.fetch(query, LOCATION, MIDDLE)])
    await connection.close()


def sessions_are_apart():
    """A setting of one client is not another's."""
    with psycopg.connect(DSN, autocommit=True) as one, psycopg.connect(DSN, autocommit=True) as other:
        one.execute("SET TIME ZONE 'Asia/Tokyo'")
        zone = other.execute("SHOW TIME ZONE").fetchone()
        if "Tokyo" in str(zone):
            sys.exit("a client sees the time zone that another has set")


def startup():
    body = struct.pack("!i", 196608) + b"user\0me\0database\0iotctl\0\0"
    return struct.pack("!i", len(body) + 4) + body


def a_bad_client_hurts_nobody():
    """Garbage, half a message, and an answer that is never read."""
    for garbage in (b"\0" * 5000, b"\xff" * 100_000, b"GET / HTTP/1.1\r\n\r\n", startup()[:9]):
        with socket.create_connection((HOST, PORT)) as stream:
            stream.settimeout(5)
            try:
                stream.sendall(garbage)
            except OSError:
                pass
            same("beside garbage", psycopg.connect(DSN).execute("SELECT 1").fetchall(), [(1,)])
    mute = socket.create_connection((HOST, PORT))
    query = b"SELECT * FROM readings a, readings b\0"
    mute.sendall(startup() + b"Q" + struct.pack("!i", len(query) + 4) + query)
    same("beside a client that never reads", psycopg.connect(DSN).execute("SELECT 1").fetchall(), [(1,)])
    with psycopg.connect(DSN) as connection:
        query = f"SELECT {COLUMNS} FROM readings WHERE location = %s AND recorded_timestamp >= %s {ORDER}"
        same("beside one that never reads", connection.execute(query, (LOCATION, MIDDLE)).fetchall())
    mute.close()


def a_statement_can_be_cancelled():
    connection = psycopg.connect(DSN, autocommit=True)
    def cancel():
        time.sleep(1)
        connection.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    started = time.monotonic()
    try:
        connection.execute("SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b")
        sys.exit("an endless statement ended")
    except psycopg.Error as error:
        if "cancelled by its client" not in str(error):
            sys.exit(f"not cancelled: {error}")
        print(f"cancelled after {time.monotonic() - started:.1f} s: {str(error).splitlines()[0]}")
    canceller.join()


with_psycopg()
with_sqlalchemy()
asyncio.run(with_asyncpg())
sessions_are_apart()
a_bad_client_hurts_nobody()
a_statement_can_be_cancelled()
