#!/usr/bin/env bash
# SQL (feature `sql`): lints, unit and integration tests, and clients that are not ours against `iotctl serve`: psql, psycopg 3,
# SQLAlchemy with pandas, asyncpg, node-postgres and pgjdbc find what `iotctl query` finds; bad clients hurt nobody.
# Needs psql, node with npm, Java with Maven and, in `python`, pip install -r tests/sql/requirements.txt
# Usage: tests/sql/run.sh [clients]      (PYTHON=… or an active virtual environment; `clients`: only these, on a built iotctl)
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ ${1:-} != clients ]]; then
    cargo clippy --locked --features sql --all-targets -- -D warnings
    cargo test --locked --features sql --lib -- sql::
    cargo test --locked --features sql --test integration -- sql_
    cargo build --locked --features sql
fi
here=$PWD/tests/sql
. tests/servers.sh
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
"$python" -c 'import asyncpg, pandas, psycopg, sqlalchemy'
(cd "$work" && cp "$here/package.json" "$here/clients.mjs" . && npm install --silent --no-audit --no-fund)
mvn -q dependency:copy -Dartifact=org.postgresql:postgresql:42.7.8 -DoutputDirectory="$work"

servers 127.0.66.1 18600
"$iotctl" -q schema apply >/dev/null
"$iotctl" -q simulate --rate 0 --sensors 20 --locations 2 --step 1m --count 30000 --missing 0.1 \
    --start "$(date -u -d '3 days ago' +%Y-%m-%dT00:00:00Z)" --format json >/dev/null
"$iotctl" -q ingest --until-end --format json >/dev/null
readings 2000-01-01 now >"$work/readings.ndjson"
[[ $(wc -l <"$work/readings.ndjson") -eq 30000 ]]

port=15433
"$iotctl" -q serve --pg "127.0.66.1:$port" --timeout 10s --max-rows 100000 2>"$work/serve.log" &
pids+=($!)
ask() { psql -X "host=127.0.66.1 port=$port dbname=iotctl user=me" "$@"; }
for _ in {1..150}; do ask -c 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.2; done

# psql: lists and descriptions, values, and what is refused.
[[ $(ask -Atc '\dt' | cut -d'|' -f2 | paste -sd,) == alerts,daily,dead_letters,forecasts,groups,hourly,latest,readings,sensors ]]
ask -c '\d readings' | grep -q 'recorded_timestamp *| timestamp with time zone'
ask -c '\l' | grep -q iotctl
ask -c '\dn' | grep -q public
[[ $(ask -Atc "SELECT count(*) FROM readings") == 30000 ]]
for statement in 'CREATE TABLE t AS SELECT 1' 'DELETE FROM readings' "COPY readings TO '/tmp/x'" 'SELECT 1 AS a INTO t'; do
    if ask -c "$statement" 2>"$work/refused"; then
        echo "not refused: $statement" >&2
        exit 1
    fi
    grep -q 'only reads' "$work/refused"
done
if ask -c 'SELECT * FROM readings a, readings b' >/dev/null 2>"$work/refused"; then exit 1; fi
grep -q 'max-rows' "$work/refused"

"$python" "$here/clients.py" "$port" "$work/readings.ndjson" 127.0.66.1
node "$work/clients.mjs" "$port" "$work/readings.ndjson" 127.0.66.1
java -cp "$(echo "$work"/postgresql-*.jar)" "$here/Clients.java" "$port" "$work/readings.ndjson" 127.0.66.1
# And it still serves.
[[ $(ask -Atc 'SELECT count(*) FROM readings') == 30000 ]]
