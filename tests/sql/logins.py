"""Logins of `iotctl serve --users --tls-certificate`: SCRAM, TLS, and what each user sees, with SQL that tries to see more.

Usage: logins.py HOST PORT CA.pem            (users of run.sh: all, one (plant-1 only), none (no location))
"""

import re
import socket
import ssl
import struct
import sys
import time

import psycopg

HOST, PORT, CA = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def dsn(user, password="secret-", tls="verify-full"):
    return f"host={HOST} port={PORT} dbname=iotctl user={user} password={password}{user} sslmode={tls} sslrootcert={CA}"


def connected(user, **options):
    return psycopg.connect(dsn(user, **options), autocommit=True)


def refused(code, **arguments):
    try:
        connected(**arguments)
    except psycopg.OperationalError as error:
        text = str(error)
        if code not in text:
            sys.exit(f"refused with another reason: {text}")
        return text
    sys.exit(f"not refused: {arguments}")


def all_of(connection, sql):
    return connection.execute(sql).fetchall()


def logins():
    with connected("all") as connection:
        assert all_of(connection, "SELECT current_user") == [("all",)]
        assert connection.pgconn.ssl_in_use
    # On this machine TLS is a choice, the login is not.
    with connected("all", tls="disable") as connection:
        assert not connection.pgconn.ssl_in_use
    wrong = refused("password authentication failed", user="all", password="wrong-")
    nobody = refused("password authentication failed", user="nobody")
    assert wrong.replace('"all"', "X") == nobody.replace('"nobody"', "X"), (wrong, nobody)
    # Questions before, instead of and during a login.
    context = ssl.create_default_context(cafile=CA)
    body = struct.pack("!i", 196608) + b"user\0all\0database\0iotctl\0\0"
    startup = struct.pack("!i", len(body) + 4) + body
    query = b"SELECT * FROM readings LIMIT 1\0"
    question = b"Q" + struct.pack("!i", len(query) + 4) + query
    for message in (startup + question, startup + b"p" + struct.pack("!i", 8) + b"x\0\0\0" + question, question):
        with socket.create_connection((HOST, PORT)) as plain:
            plain.sendall(struct.pack("!ii", 8, 80877103))
            assert plain.recv(1) == b"S"
            with context.wrap_socket(plain, server_hostname=HOST) as stream:
                stream.settimeout(20)
                answer = b""
                try:
                    stream.sendall(message)
                    while data := stream.recv(4096):
                        answer += data
                except OSError:
                    pass
                assert b"plant-" not in answer and b"R\0\0\0\x08\0\0\0\0" not in answer, answer
    # Several users guess at once and nobody else waits.
    started = time.monotonic()
    with connected("one"):
        pass
    assert time.monotonic() - started < 10


TRIALS = [
    "SELECT DISTINCT location FROM {table}",
    "SELECT location FROM {table} WHERE location = 'plant-2'",
    "SELECT location FROM {table} WHERE location IN ('plant-1', 'plant-2')",
    "SELECT location FROM {table} WHERE location <> 'plant-1'",
    "SELECT location FROM {table} WHERE location LIKE '%2' OR true",
    "SELECT location FROM {table} WHERE 1 = 1 OR location = 'plant-2'",
    "SELECT location FROM (SELECT * FROM {table} UNION ALL SELECT * FROM {table}) t",
    "WITH t AS (SELECT location FROM iotctl.public.{table}) SELECT location FROM t EXCEPT SELECT 'plant-1'",
    "SELECT (SELECT max(location) FROM public.{table})",
    "SELECT location FROM {table} WHERE location NOT IN (SELECT 'plant-1')",
    "SELECT location FROM {table} a WHERE EXISTS (SELECT 1 FROM groups b WHERE b.location <> 'plant-1')",
    "SELECT max(location) FROM \"{table}\"",
    "SELECT a.location FROM {table} a RIGHT JOIN (VALUES ('plant-2')) v (location) ON a.location = v.location",
    "SELECT location, count(*) FROM {table} GROUP BY ROLLUP (location)",
    "SELECT first_value(location) OVER (ORDER BY location DESC) FROM {table}",
    "SELECT array_agg(DISTINCT location)::text FROM {table}",
    "EXPLAIN ANALYZE SELECT * FROM {table} WHERE location = 'plant-2'",
]
TABLES = ["readings", "latest", "sensors", "groups", "hourly", "daily", "alerts", "forecasts"]


def what_a_user_sees():
    with connected("all") as everything, connected("one") as one, connected("none") as none:
        assert {row[0] for row in all_of(everything, "SELECT DISTINCT location FROM readings")} == {"plant-1", "plant-2"}
        # In the tables of rows each user sees exactly those of its locations.
        for table in TABLES:
            expected = all_of(everything, f"SELECT count(*) FROM {table} WHERE location = 'plant-1'")
            assert all_of(one, f"SELECT count(*) FROM {table}") == expected, table
            assert all_of(none, f"SELECT count(*) FROM {table}") == [(0,)], table
        for table in TABLES:
            for trial in TRIALS:
                statement = trial.format(table=table)
                found = all_of(one, statement)
                text = "\n".join(str(value) for row in found for value in row)
                if "EXPLAIN" in trial:
                    # It repeats the statement's own conditions, and reads nothing.
                    numbers = re.findall(r"(?:groups|partitions of raw rows|hours from rollups|rows_read|output_rows)=([^,\]]+)", text)
                    if numbers and any(number.strip() != "0" for number in numbers):
                        sys.exit(f"one reads plant-2: {statement}: {text}")
                elif "plant-2" in text:
                    sys.exit(f"one sees plant-2: {statement}: {found[:3]}")
        # By the id of a sensor elsewhere, by the name of a group, by its time: nothing.
        elsewhere = all_of(everything, "SELECT iot_sensor_id FROM sensors WHERE location = 'plant-2' LIMIT 1")[0][0]
        for table in ("readings", "latest", "sensors", "hourly", "daily"):
            assert all_of(one, f"SELECT count(*) FROM {table} WHERE iot_sensor_id = '{elsewhere}'") == [(0,)], table
            prepared = one.execute(f"SELECT count(*) FROM {table} WHERE iot_sensor_id = %s", (elsewhere,), prepare=True)
            assert prepared.fetchall() == [(0,)], table
        assert all_of(everything, "SELECT count(*) FROM dead_letters") != [(0,)]
        assert all_of(one, "SELECT count(*) FROM dead_letters") == [(0,)]
        # Aggregates by time, which rollups may answer.
        for select in ("count(temperature)", "avg(temperature)", "max(temperature)"):
            by_day = "FROM readings {} GROUP BY 1 ORDER BY 1"
            own = f"SELECT time_bucket('1 day', recorded_timestamp) AS day, {select} "
            # Means differ in their last digits by the order of the sums.
            rounded = lambda rows: [(day, round(value, 6)) for day, value in rows]
            found, expected = all_of(one, own + by_day.format("")), all_of(everything, own + by_day.format("WHERE location = 'plant-1'"))
            assert rounded(found) == rounded(expected), (select, found, expected)
        for statement in ("SET ROLE all", "SET SESSION AUTHORIZATION 'all'", "SET iotctl.access = '*'"):
            try:
                one.execute(statement)
            except psycopg.Error:
                pass
            assert all_of(one, "SELECT count(DISTINCT location) FROM readings") == [(1,)], statement
        for statement in ("CREATE VIEW v AS SELECT * FROM readings", "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'"):
            try:
                one.execute(statement)
                sys.exit(f"not refused: {statement}")
            except psycopg.Error:
                pass
        with one.cursor().copy("COPY (SELECT DISTINCT location FROM readings) TO STDOUT") as copy:
            copied = b"".join(copy)
        assert copied == b"plant-1\n", copied


def places_of_a_user():
    """The user `few` may have two clients."""
    with connected("few"), connected("few"):
        refused("too many clients", user="few")
    for _ in range(50):
        try:
            connected("few").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    sys.exit("a place does not become free")


logins()
what_a_user_sees()
places_of_a_user()
print("logins: each user sees its own locations")
