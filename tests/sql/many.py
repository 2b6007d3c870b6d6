"""Fifty clients at once, one that never reads and one that sends garbage: everybody is served, and nothing is left over.

Usage: many.py HOST PORT PID SECONDS METRICS_URL
"""

import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.request

import psycopg

HOST, PORT, PID, SECONDS, METRICS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
CLIENTS = 47
STATEMENTS = [
    "SELECT location, count(*), avg(temperature) FROM readings GROUP BY 1",
    "SELECT * FROM latest ORDER BY recorded_timestamp DESC LIMIT 10",
    "SELECT day, max(max) FROM daily WHERE metric = 'temperature' GROUP BY 1 ORDER BY 1",
    "SELECT * FROM readings ORDER BY recorded_timestamp DESC LIMIT 100",
    "SELECT count(*) FROM readings WHERE temperature > 20",
    "SELECT * FROM sensors",
]
END = time.monotonic() + SECONDS
latencies, failures = [[] for _ in range(CLIENTS)], []


def memory():
    with open(f"/proc/{PID}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def descriptors():
    return len(os.listdir(f"/proc/{PID}/fd"))


def metric(name):
    with urllib.request.urlopen(METRICS, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def asks(number):
    chosen = random.Random(number)
    try:
        while time.monotonic() < END:
            with psycopg.connect(f"host={HOST} port={PORT} dbname=iotctl user=me", autocommit=True) as connection:
                for _ in range(10):
                    started = time.monotonic()
                    connection.execute(chosen.choice(STATEMENTS)).fetchall()
                    latencies[number].append(time.monotonic() - started)
                    if time.monotonic() > END:
                        return
    except psycopg.Error as error:
        failures.append(str(error))


def never_reads():
    body = struct.pack("!i", 196608) + b"user\0mute\0database\0iotctl\0\0"
    query = b"SELECT * FROM readings a, readings b\0"
    while time.monotonic() < END:
        with socket.create_connection((HOST, PORT)) as mute:
            mute.sendall(struct.pack("!i", len(body) + 4) + body + b"Q" + struct.pack("!i", len(query) + 4) + query)
            time.sleep(min(20, max(0, END - time.monotonic())))


def sends_garbage():
    while time.monotonic() < END:
        try:
            with socket.create_connection((HOST, PORT)) as stream:
                stream.sendall(random.randbytes(random.randrange(1, 50_000)))
        except OSError:
            pass
        time.sleep(0.05)


psycopg.connect(f"host={HOST} port={PORT} dbname=iotctl user=me").close()
before = memory(), descriptors()
threads = [threading.Thread(target=asks, args=(number,)) for number in range(CLIENTS)]
threads += [threading.Thread(target=never_reads), threading.Thread(target=sends_garbage)]
for thread in threads:
    thread.start()
highest = 0
while any(thread.is_alive() for thread in threads):
    highest = max(highest, memory())
    time.sleep(0.2)
if failures:
    sys.exit(f"{len(failures)} clients failed: {failures[0]}")
# Nobody starves, and each client's memory, files and places are given back.
if min(map(len, latencies)) == 0:
    sys.exit("a client was not served")
for _ in range(200):
    if metric("iotctl_serve_clients") == 0 and descriptors() <= before[1] + 2:
        break
    time.sleep(0.1)
else:
    sys.exit(f"left over: {metric('iotctl_serve_clients')} clients, {descriptors()} descriptors instead of {before[1]}")
if metric("iotctl_serve_memory_bytes") != 0:
    sys.exit("memory of statements is left over")
everything = sorted(latency for client in latencies for latency in client)
count = len(everything)
print(
    f"{CLIENTS} clients for {SECONDS:.0f} s: {count} statements, {count / SECONDS:.0f}/s, median {everything[count // 2] * 1000:.0f} ms, "
    f"99 % {everything[count * 99 // 100] * 1000:.0f} ms; a client {min(map(len, latencies))} to {max(map(len, latencies))} statements; "
    f"memory {before[0]} MB before, {highest} MB at most, {memory()} MB after; files {before[1]}, {descriptors()}"
)
