"""PostgreSQL's clients for Python against `iotctl serve`: each must find what `iotctl query` finds.

Usage: clients.py PORT READINGS.ndjson [HOST]
"""

import asyncio
import csv
import datetime
import decimal
import io
import json
import pathlib
import socket
import struct
import sys
import threading
import time
import uuid

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


KEYS = {
    "readings": ["location", "device_type", "iot_sensor_id", "recorded_timestamp"],
    "latest": ["location", "device_type", "iot_sensor_id"],
    "sensors": ["location", "device_type", "iot_sensor_id"],
    "groups": ["location", "device_type"],
    "hourly": ["location", "device_type", "hour", "metric", "iot_sensor_id"],
    "daily": ["location", "device_type", "day", "metric", "iot_sensor_id"],
    "dead_letters": ["id"],
    "alerts": [],
    "forecasts": [],
}


def with_reflection():
    """All that SQLAlchemy asks of a database that it has not seen."""
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://me@{HOST}:{PORT}/iotctl")
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine)
    keys = {name: [column.name for column in table.primary_key] for name, table in metadata.tables.items()}
    if keys != KEYS:
        sys.exit(f"SQLAlchemy reflects the keys {keys}")
    readings = metadata.tables["readings"]
    if not isinstance(readings.c.recorded_timestamp.type, sqlalchemy.TIMESTAMP) or not readings.c.recorded_timestamp.type.timezone:
        sys.exit(f"recorded_timestamp is reflected as {readings.c.recorded_timestamp.type!r}")
    if readings.c.location.nullable or not readings.c.temperature.nullable:
        sys.exit("SQLAlchemy does not know what may be missing")
    inspector = sqlalchemy.inspect(engine)
    if inspector.get_pk_constraint("readings")["name"] != "readings_pkey":
        sys.exit(f"the key is {inspector.get_pk_constraint('readings')}")
    if inspector.get_table_comment("latest")["text"] != "the newest reading of each sensor":
        sys.exit(f"the comment is {inspector.get_table_comment('latest')}")
    for found in (
        inspector.get_indexes("readings"), inspector.get_foreign_keys("readings"), inspector.get_unique_constraints("readings"),
        inspector.get_check_constraints("readings"), inspector.get_enums(), inspector.get_sequence_names(),
        inspector.get_view_names(), inspector.get_materialized_view_names(), inspector.get_domains(),
    ):
        if found:
            sys.exit(f"SQLAlchemy finds {found}")
    if "public" not in inspector.get_schema_names() or not inspector.has_table("daily") or inspector.has_table("weekly"):
        sys.exit(f"SQLAlchemy finds the schemas {inspector.get_schema_names()}")
    # And a question by the reflected table.
    with engine.connect() as connection:
        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(readings).where(readings.c.location == LOCATION)
        same("SQLAlchemy, reflected", connection.execute(query).fetchall(), [(len(HERE),)])


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
        if error.sqlstate != "57014":
            sys.exit(f"not cancelled: {error.sqlstate} {error}")
        print(f"cancelled after {time.monotonic() - started:.1f} s: {str(error).splitlines()[0]}")
    canceller.join()
    # The session goes on, and a time that the client sets ends a statement too.
    connection.execute("SET statement_timeout = '500ms'")
    fails(connection, "57014", "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b")
    connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()


def fails(connection, code, statement, parameters=None):
    try:
        connection.execute(statement, parameters)
    except psycopg.Error as error:
        if error.sqlstate != code:
            sys.exit(f"{statement}: {error.sqlstate} instead of {code}: {error}")
        return
    sys.exit(f"not refused: {statement}")


def errors_have_their_codes():
    with psycopg.connect(DSN, autocommit=True) as connection:
        for code, statement in [
            ("42601", "SELEC 1"),
            ("42601", "SELECT 'a"),
            ("54001", "SELECT 1" + " + 1" * 1_000),
            ("54001", "SELECT 1" + " UNION SELECT 1" * 100_000),
            ("54001", "SELECT " + "(" * 1_000 + "1" + ")" * 1_000),
            ("42P01", "SELECT * FROM nothing"),
            ("42703", "SELECT nothing FROM readings"),
            ("42883", "SELECT nothing(1)"),
            ("22P02", "SELECT 'a'::int"),
            ("22012", "SELECT 1 / (SELECT 0)"),
            ("25006", "DELETE FROM readings"),
            ("25006", "CREATE TABLE t (a int)"),
            ("25006", "COPY readings TO '/tmp/x'"),
            ("25006", "SET datafusion.execution.batch_size = 1"),
            ("26000", "EXECUTE nothing (1)"),
            ("26000", "DEALLOCATE nothing"),
            ("53400", "SELECT a.motion_detected FROM readings a, readings b"),
            ("0A000", "COPY readings TO STDOUT (FORMAT binary)"),
            ("22023", "SET statement_timeout = 'soon'"),
        ]:
            fails(connection, code, statement)
        fails(connection, "42703", "SELECT nothing FROM readings WHERE location = %s", ("a",))
        fails(connection, "22P02", "SELECT * FROM readings WHERE recorded_timestamp > %s::timestamptz", ("yesterday evening",))
        with connection.transaction():
            connection.execute("SELECT 1")
    with psycopg.connect(DSN) as connection:
        fails(connection, "42P01", "SELECT * FROM nothing")
        fails(connection, "25P02", "SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    print("errors: each has its SQLSTATE")


def statements_are_prepared_in_sql():
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("PREPARE hot (double precision, text) AS SELECT count(*) FROM readings WHERE temperature > $1 AND location = $2")
        for limit in (-1000, 20):
            expected = sum(1 for row in HERE if row.get("temperature") is not None and row["temperature"] > limit)
            same("EXECUTE", connection.execute(f"EXECUTE hot ({limit}, '{LOCATION}')").fetchall(), [(expected,)])
        # With the extended protocol, which wants to know the columns first.
        cursor = psycopg.ClientCursor(connection)
        same("EXECUTE, described", connection.cursor(binary=True).execute("EXECUTE hot (-1000, '" + LOCATION + "')").fetchall(), [(sum(1 for row in HERE if row.get("temperature") is not None),)])
        fails(connection, "42601", "EXECUTE hot (1)")
        fails(connection, "42P05", "PREPARE hot AS SELECT 1")
        connection.execute("DEALLOCATE hot")
        fails(connection, "26000", "EXECUTE hot (1, 'a')")
        fails(connection, "42P01", "PREPARE wrong AS SELECT * FROM nothing")
        connection.execute("DISCARD ALL")


def cursors():
    query = f"SELECT iot_sensor_id, recorded_timestamp, temperature FROM readings WHERE location = %s {ORDER}"
    expected = [(row["iot_sensor_id"], at(row), row.get("temperature")) for row in HERE]
    with psycopg.connect(DSN) as connection:
        for binary in (False, True):
            with connection.cursor("some", binary=binary) as cursor:
                cursor.itersize = 700
                cursor.execute(query, (LOCATION,))
                assert [column.name for column in cursor.description] == ["iot_sensor_id", "recorded_timestamp", "temperature"]
                found = [cursor.fetchone(), *cursor.fetchmany(10), *cursor]
                same(f"cursor, binary={binary}", found, expected)
                assert cursor.fetchmany(5) == []
            connection.rollback()
        connection.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT 1 AS a UNION ALL SELECT 2 ORDER BY a")
        connection.execute("DECLARE gone CURSOR FOR SELECT 1")
        fails(connection, "42P03", "DECLARE kept CURSOR FOR SELECT 1")
        connection.commit()
        assert connection.execute("FETCH ALL FROM kept").fetchall() == [(1,), (2,)]
        connection.execute("DECLARE Counted CURSOR WITH HOLD FOR SELECT value FROM generate_series(1, 10) ORDER BY 1")
        for statement, expected in [
            ("FETCH counted", [1]), ("FETCH NEXT FROM counted", [2]), ("FETCH FORWARD counted", [3]), ("FETCH 2 counted", [4, 5]),
            ("MOVE counted", 1), ("MOVE FORWARD 2 IN counted", 2), ("FETCH FORWARD ALL counted", [9, 10]), ("FETCH counted", []),
            ("MOVE ALL FROM counted", 0),
        ]:
            done = connection.execute(statement)
            found = done.rowcount if isinstance(expected, int) else [value for (value,) in done.fetchall()]
            if found != expected:
                sys.exit(f"{statement}: {found} instead of {expected}")
        connection.execute("CLOSE ALL")
        fails(connection, "34000", "FETCH counted")
        for code, statement in [
            ("34000", "FETCH 1 FROM gone"), ("34000", "CLOSE kept"), ("42703", "DECLARE c CURSOR FOR SELECT nothing FROM readings"),
            ("53400", "FETCH 1000000 FROM wide"), ("55000", "FETCH BACKWARD 1 FROM wide"),
        ]:
            connection.rollback()
            if "wide" in statement:
                connection.execute("DECLARE wide CURSOR FOR SELECT * FROM readings")
            fails(connection, code, statement)
        connection.rollback()
        for number in range(8):
            connection.execute(f"DECLARE c{number} CURSOR FOR SELECT * FROM readings")
        fails(connection, "53400", "DECLARE c8 CURSOR FOR SELECT * FROM readings")
        connection.rollback()
    with psycopg.connect(DSN) as connection:
        try:
            connection.execute("DECLARE c CURSOR FOR SELECT 1 AS a INTO t")
            sys.exit("a cursor made a table")
        except psycopg.Error as error:
            print(f"SELECT INTO in a cursor: {error.sqlstate}")


def values_of_all_types():
    with psycopg.connect(DSN, autocommit=True) as connection:
        instant = datetime.datetime(2026, 1, 31, 12, 0, 0, 250000, datetime.timezone.utc)
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            for cast, value in [
                ("int", 42), ("bigint", -(2**53)), ("smallint", 7), ("double precision", 0.1), ("real", 0.5), ("text", "ü'\\ \n"),
                ("varchar", ""), ("boolean", True), ("timestamp", instant.replace(tzinfo=None)),
                ("date", datetime.date(2026, 1, 31)),
            ]:
                found = cursor.execute(f"SELECT %s::{cast}", (value,)).fetchone()[0]
                if found != value:
                    sys.exit(f"{cast}, binary={binary}: {found!r} instead of {value!r}")
                assert cursor.execute(f"SELECT %s::{cast}", (None,)).fetchone() == (None,), cast
            found = cursor.execute("SELECT count(*) FROM readings WHERE temperature > %s AND humidity < %s AND motion_detected IS NOT DISTINCT FROM %s", (decimal.Decimal("0.5"), 1000, None)).fetchone()
            assert found is not None
    print("parameters: values of all types come back, as text and in binary")


def parameters_keep_their_places():
    """Where the server writes the second operand before the first one."""
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
    for binary in (False, True):
        with psycopg.connect(DSN, autocommit=True) as connection, connection.cursor(binary=binary) as cursor:
            shown = cursor.execute("SELECT %s::timestamptz AT TIME ZONE %s::text", (noon, "Asia/Tokyo")).fetchone()
            assert shown == (datetime.datetime(2026, 1, 31, 21),), shown
            question = "SELECT %s::text IN (SELECT location FROM groups WHERE device_type <> %s::text), %s::text"
            found = cursor.execute(question, (LOCATION, "none of these", "last")).fetchone()
            assert found == (True, "last"), found


def parameters_have_their_own_types():
    """Where the place of a parameter does not say of what type it is, or says something else."""
    newest, sensor = max(at(row) for row in HERE), HERE[0]["iot_sensor_id"]
    in_last_hour = sum(at(row) > newest - datetime.timedelta(hours=1) for row in HERE)
    of_sensor = sum(row["iot_sensor_id"] == sensor for row in ROWS)
    hour, ids = datetime.timedelta(hours=1), [uuid.UUID(sensor)]
    for binary in (False, True):
        with psycopg.connect(DSN, autocommit=True) as connection, connection.cursor(binary=binary) as cursor:
            for condition, values, expected in [
                ("location = %s AND recorded_timestamp > %s - %s", (LOCATION, newest, hour), in_last_hour),
                ("location = %s AND recorded_timestamp > %s - %s * interval '1 minute'", (LOCATION, newest, 60), in_last_hour),
                ("(%s IS NULL OR device_type = %s) AND location = %s", (None, None, LOCATION), len(HERE)),
                ("iot_sensor_id = %s", (ids[0],), of_sensor),
                ("iot_sensor_id = ANY(%s)", (ids,), of_sensor),
                ("location = ANY(%s)", ([LOCATION, "with a blank"],), len(HERE)),
            ]:
                found = cursor.execute(f"SELECT count(*) FROM readings WHERE {condition}", values).fetchone()
                assert found == (expected,), (condition, found, expected)
            quoted = ["with a blank", "back\\slash", 'say "x", y']
            found = cursor.execute("SELECT 'with a blank' = ANY(%s), %s + interval '1 day'", (quoted, datetime.date(2026, 1, 31))).fetchone()
            assert found == (True, datetime.date(2026, 2, 1)), found
            # The same on each connection.
            assert cursor.execute("SELECT to_char(timestamptz '2026-01-31 12:00Z', 'YYYY-MM HH24')").fetchone() == ("2026-01 12",)
    print("parameters: they have their own types")


def copies():
    with psycopg.connect(DSN, autocommit=True) as connection:
        query = f"SELECT iot_sensor_id, recorded_timestamp, temperature FROM readings WHERE location = '{LOCATION}' {ORDER}"
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
            copy.set_types(["text", "timestamptz", "float8"])
            found = [row for row in copy.rows()]
        expected = [(row["iot_sensor_id"], at(row), row.get("temperature")) for row in HERE]
        same("COPY, text", found, expected)
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER)") as copy:
            lines = list(csv.reader(io.StringIO(b"".join(copy).decode())))
        assert lines[0] == ["iot_sensor_id", "recorded_timestamp", "temperature"], lines[0]
        found = [(line[0], moment(line[1]), float(line[2]) if line[2] else None) for line in lines[1:]]
        same("COPY, CSV", found, expected)
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["text", "timestamptz", "float8"])
            same("COPY, binary", copy.rows(), expected)
        with connection.cursor().copy("COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)") as copy:
            assert list(copy.rows()) == []
        # An error in the middle is one, and the session goes on.
        try:
            with connection.cursor().copy("COPY (SELECT a.motion_detected FROM readings a, readings b) TO STDOUT") as copy:
                for _ in copy:
                    pass
            sys.exit("a COPY of too many rows ended")
        except psycopg.Error as error:
            assert error.sqlstate in ("53400", "57014"), error
        assert connection.execute("SELECT 1").fetchone() == (1,)


def programs_find_what_they_look_for():
    with psycopg.connect(DSN, autocommit=True) as connection:
        count = 0
        for line in (pathlib.Path(__file__).parent / "metadata.sql").read_text().splitlines():
            if line and not line.startswith("--"):
                try:
                    connection.execute(line.rstrip(";"))
                except psycopg.Error as error:
                    sys.exit(f"{line}: {error}")
                count += 1
        print(f"metadata: {count} statements of programs answered")


async def a_pool_gives_connections_back():
    pool = await asyncpg.create_pool(host=HOST, port=PORT, user="me", database="iotctl", min_size=1, max_size=3)
    for _ in range(5):
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT count(*) FROM readings WHERE location = $1", LOCATION) == len(HERE)
    async with pool.acquire() as connection:
        output = io.BytesIO()
        await connection.copy_from_query("SELECT DISTINCT location FROM readings ORDER BY 1", output=output, format="csv")
        assert output.getvalue().decode().splitlines() == sorted({row["location"] for row in ROWS}), output.getvalue()
        rows = 0
        async with connection.transaction():
            async for _ in connection.cursor("SELECT iot_sensor_id FROM readings WHERE location = $1", LOCATION, prefetch=500):
                rows += 1
        assert rows == len(HERE), rows
    await pool.close()
    print("asyncpg's pool: connections come back clean")


with_psycopg()
with_sqlalchemy()
asyncio.run(with_asyncpg())
sessions_are_apart()
a_bad_client_hurts_nobody()
a_statement_can_be_cancelled()
errors_have_their_codes()
statements_are_prepared_in_sql()
cursors()
values_of_all_types()
parameters_keep_their_places()
parameters_have_their_own_types()
copies()
programs_find_what_they_look_for()
with_reflection()
asyncio.run(a_pool_gives_connections_back())
