#!/usr/bin/env bash
# `iotctl sql` and DuckDB side by side: N simulated readings are stored, rolled up, and written to Parquet by `iotctl sql`. Then 25
# questions in the forms of TSBS (benches/sql.py) are asked of both, of iotctl also with --raw, and the answers are compared. With
# RAW=1 also those over all readings are asked with --raw, which takes minutes for each 10 million.
# Prints the median of ROUNDS (3) rounds in ms, and the peak memory of each.
#
#   benches/sql.sh [N] [iotctl options, such as -O cassandra.contact_points=…]
#
# Needs running servers (`iotctl up`), python3 and pip. IOTCTL names a program with `sql` that is built already; KEYSPACE one that an
# earlier run has filled. Everything that it writes is in a keyspace and a topic named bench_sql_….
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-1000000}
shift || true
target=${CARGO_TARGET_DIR:-target}
if [[ -z ${IOTCTL:-} ]]; then
    cargo build --release --locked --quiet --features sql
    IOTCTL="$target/release/iotctl"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=${KEYSPACE:-bench_sql_$(date +%s)}
options=(-O "cassandra.keyspace=$name" -O "kafka.topic=$name" -O "kafka.group=$name" "$@")
ask() { "$IOTCTL" -q "${options[@]}" "$@"; }

if [[ -z ${KEYSPACE:-} ]]; then
    ask schema apply >/dev/null
    # A reading per sensor and 10 s; over by now, so that all of its hours can be rolled up.
    ask simulate --rate 0 --count "$count" --seed 1 --start "${START:-2026-11-01T00:00:00Z}" --step 10s --format json >"$work/simulate"
    ask ingest --until-end --format json >"$work/ingest"
    # Without --no-wait it waits until the marks have rested.
    ask rollup --format json >"$work/rollup"
    echo "keyspace $name"
fi
ask sql 'SELECT * FROM readings' --timeout 1h --format parquet --output "$work/readings.parquet"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet duckdb
"$work/venv/bin/python" benches/sql.py "$work/readings.parquet" "${ROUNDS:-3}" "$IOTCTL" -q "${options[@]}"
