#!/usr/bin/env bash
# docs/notebook.md as it stands: its Python blocks in order, by pandas, polars and DuckDB, against a brute force over the readings.
# Needs an iotctl built with --features sql and, in `python`, pip install -r tests/notebook/requirements.txt
# Usage: tests/notebook/run.sh      (PYTHON=… or an active virtual environment; IOTCTL=… for another binary)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../servers.sh"
python=$(realpath -s "${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}")
"$python" -c 'import duckdb, pandas, polars, psycopg, sqlalchemy'

address=127.0.67.1
servers "$address" 18800
"$iotctl" -q schema apply >/dev/null
"$iotctl" -q simulate --rate 0 --sensors 20 --locations 2 --step 1m --count 30000 --missing 0.1 \
    --start "$(date -u -d '3 days ago' +%Y-%m-%dT00:00:00Z)" --format json >/dev/null
"$iotctl" -q ingest --until-end --format json >/dev/null
readings 2000-01-01 now >"$work/readings.ndjson"

"$iotctl" -q serve --pg "$address:15434" 2>"$work/serve.log" &
pids+=($!)
for _ in {1..150}; do (exec 3<>"/dev/tcp/$address/15434") 2>/dev/null && break; sleep 0.2; done
cd "$work"
# The page's own line.
export=$(sed -n 's/^iotctl export/export/p' "$here/../../docs/notebook.md")
read -ra arguments <<<"$export"
"$iotctl" -q "${arguments[@]}"
"$python" "$here/blocks.py" "$here/../../docs/notebook.md" "$address:15434" readings.ndjson
