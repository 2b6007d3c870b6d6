#!/usr/bin/env bash
# SQL (feature `sql`) and Prophet (feature `prophet`): lints, unit and integration tests. And clients that are not ours against
# `iotctl serve`: psql, psycopg 3, SQLAlchemy with pandas, asyncpg, node-postgres, pgjdbc and (where it is there) GDAL find what
# `iotctl query` finds; bad clients hurt nobody.
# Needs psql, node with npm, Java with Maven and, in `python`, pip install -r tests/sql/requirements.txt
# SECONDS_OF_MANY=60 adds 50 clients at once.
# Usage: tests/sql/run.sh [clients]      (PYTHON=… or an active virtual environment; `clients`: only these, on a built iotctl)
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ ${1:-} != clients ]]; then
    cargo clippy --locked --features prophet,sql --all-targets -- -D warnings
    cargo test --locked --features prophet,sql --lib -- forecasts:: sql
    cargo test --locked --features prophet,sql --test integration -- sql_
    cargo build --locked --features prophet,sql
fi
here=$PWD/tests/sql
. tests/servers.sh
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
"$python" -c 'import asyncpg, pandas, psycopg, sqlalchemy'
(cd "$work" && cp "$here/package.json" "$here/clients.mjs" . && npm install --silent --no-audit --no-fund)
mvn -q dependency:copy -Dartifact=org.postgresql:postgresql:42.7.8 -DoutputDirectory="$work"

servers 127.0.66.1 18600
host=127.0.66.1
"$iotctl" -q schema apply >/dev/null
# Two weeks by the hour, then a day by the minute, which ends with alerts; a reading of the future, which is a dead letter; forecasts.
start=$(date -u -d '3 days ago' +%Y-%m-%dT00:00:00Z)
simulate() { "$iotctl" -q simulate --rate 0 --sensors 20 --locations 2 --missing 0.1 --format json "$@" >/dev/null; }
simulate --step 1h --count 6720 --start "$(date -u -d '17 days ago' +%Y-%m-%dT00:00:00Z)"
simulate --step 1m --count 30000 --start "$start"
simulate --step 1m --count 1 --start 2090-01-01T00:00:00Z
cat >"$work/rules.toml" <<'RULES'
[[rule]]
name = "warm"
metric = "temperature"
severity = "warning"
threshold = { above = 21.0 }
[[rule]]
name = "cold"
metric = "temperature"
severity = "critical"
threshold = { below = 19.0 }
RULES
"$iotctl" -q ingest --until-end --format json --detect "$work/rules.toml" >/dev/null
"$iotctl" -q rollup >/dev/null
readings 2000-01-01 now >"$work/readings.ndjson"
rows=36720
[[ $(wc -l <"$work/readings.ndjson") -eq $rows ]]

port=15433
metrics=http://$host:15434/metrics
"$iotctl" -q serve --pg "$host:$port" --timeout 10s --max-rows 100000 --metrics-addr "$host:15434" 2>"$work/serve.log" &
pids+=($!)
serve_pid=$!
ask() { psql -X "host=$host port=$port dbname=iotctl user=me" "$@"; }
until_answered() { for _ in {1..150}; do "$@" -c 'SELECT 1' >/dev/null 2>&1 && return; sleep 0.2; done; cat "$work"/*.log >&2; exit 1; }
until_answered ask
for group in $(ask -Atc "SELECT DISTINCT location || ',' || device_type FROM readings WHERE temperature IS NOT NULL ORDER BY 1"); do
    "$iotctl" -q forecast --metric temperature --location "${group%,*}" --device-type "${group#*,}" --horizon 4h --season 2h \
        --model seasonal-naive --history 14d --store --format json >/dev/null
done

# psql: lists and descriptions, values, and what is refused.
[[ $(ask -Atc '\dt' | cut -d'|' -f2 | paste -sd,) == alerts,daily,dead_letters,forecasts,groups,hourly,latest,readings,sensors ]]
ask -c '\d readings' | grep -q 'recorded_timestamp *| timestamp with time zone'
ask -c '\d readings' | grep -q '"readings_pkey" PRIMARY KEY, btree (location, device_type, iot_sensor_id, recorded_timestamp)'
ask -Atc '\di' | grep -q '^public|readings_pkey|index|me|readings'
ask -Atc '\dt+ latest' | grep -q 'the newest reading of each sensor'
ask -c '\l' | grep -q iotctl
ask -c '\l+' | grep -q iotctl
ask -c '\dn' | grep -q public
ask -c '\du' | grep -q me
for list in d d+ 'd+ readings' di+ dn+ df 'df+ lower' du+ dv dm ds dE dp dT 'dT+ text' dO dx des dRp dL da dC db dA conninfo; do
    ask -c "\\$list" >/dev/null 2>"$work/list" && ! grep -v '^Did not find any ' "$work/list" ||
        { echo "\\$list: $(cat "$work/list")" >&2; exit 1; }
done
# GDAL's driver, as QGIS uses it.
if command -v ogrinfo >/dev/null; then
    pg="PG:host=$host port=$port dbname=iotctl user=me"
    ogrinfo -so "$pg" sensors 2>"$work/list" | grep -q 'iot_sensor_id: String'
    ! grep -v 'Multi-column primary key in .* not supported' "$work/list" || { echo "GDAL: $(cat "$work/list")" >&2; exit 1; }
    [[ $(ogrinfo -q "$pg" -sql 'SELECT count(*) AS n FROM readings' | grep -o 'n (Integer64) = .*') == "n (Integer64) = $rows" ]]
fi
[[ $(ask -Atc "SELECT count(*) FROM readings") == "$rows" ]]
for statement in 'CREATE TABLE t AS SELECT 1' 'DELETE FROM readings' "COPY readings TO '/tmp/x'" 'SELECT 1 AS a INTO t'; do
    if ask -c "$statement" 2>"$work/refused"; then
        echo "not refused: $statement" >&2
        exit 1
    fi
    grep -q 'only reads' "$work/refused"
done
if ask -c 'SELECT * FROM readings a, readings b' >/dev/null 2>"$work/refused"; then exit 1; fi
grep -q 'max-rows' "$work/refused"
[[ $(ask -Atc '\timing' -c 'SELECT 1' | head -2 | tail -1) == 1 ]]
[[ $(ask -c '\copy (SELECT DISTINCT location FROM readings ORDER BY 1) TO STDOUT CSV HEADER' | paste -sd,) == location,plant-1,plant-2 ]]
[[ $(ask -Atc "BEGIN" -c "SET LOCAL statement_timeout = '5s'" -c 'SELECT 1' -c 'ROLLBACK' | paste -sd,) == BEGIN,SET,1,ROLLBACK ]]
[[ $(ask -Atc '\set FETCH_COUNT 500' -c 'SELECT iot_sensor_id FROM readings' | wc -l) -eq $((rows + 0)) ]]

"$python" "$here/clients.py" "$port" "$work/readings.ndjson" "$host"
node "$work/clients.mjs" "$port" "$work/readings.ndjson" "$host"
jar=$(echo "$work"/postgresql-*.jar)
java -cp "$jar" "$here/Clients.java" "$port" "$work/readings.ndjson" "$host"
day_later=$(date -u -d "$start + 25 hours" +%Y-%m-%dT%H:%M:%SZ)
"$python" "$here/grafana.py" "$host" "$port" "$start" "$day_later"
# 50 clients at once: a load test, for an optimised build on a machine that does nothing else.
if [[ -n ${SECONDS_OF_MANY:-} ]]; then
    "$python" "$here/many.py" "$host" "$port" "$serve_pid" "$SECONDS_OF_MANY" "$metrics"
fi
# And it still serves.
[[ $(ask -Atc 'SELECT count(*) FROM readings') == "$rows" ]]

# Logins and TLS: a certificate of an authority of our own, and users that see all, one or no location.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
    -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$host" -keyout "$work/new.key" -out "$work/new.csr" \
        2>/dev/null
    openssl x509 -req -in "$work/new.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 -out "$work/new.pem" \
        -extfile <(echo "subjectAltName=IP:$host") 2>/dev/null
    mv "$work/new.key" "$work/server.key" && mv "$work/new.pem" "$work/server.pem"
}
certificate
user() { echo "secret-$1" | "$iotctl" -q serve user "$@" >>"$work/users.toml"; }
(umask 077 && : >"$work/users.toml")
user all --location '*'
user one --location plant-1
user none --location 'nowhere-*'
user few --location '*'
echo 'max_clients = 2' >>"$work/users.toml"
if grep -q secret "$work/users.toml"; then exit 1; fi
# An address that others reach needs both.
for flags in "" "--users $work/users.toml" "--tls-certificate $work/server.pem --tls-key $work/server.key"; do
    # shellcheck disable=SC2086
    if "$iotctl" -q serve --pg 0.0.0.0:15435 $flags 2>"$work/refused"; then exit 1; fi
    grep -q 'ssh -L' "$work/refused"
done
port=15435
"$iotctl" -q serve --pg "0.0.0.0:$port" --users "$work/users.toml" --tls-certificate "$work/server.pem" --tls-key "$work/server.key" \
    2>"$work/serve-tls.log" &
pids+=($!)
ask_as() {
    local who=$1
    shift
    PGPASSWORD=secret-$who psql -X "host=$host port=$port dbname=iotctl user=$who sslmode=verify-full sslrootcert=$work/ca.pem" "$@"
}
until_answered ask_as all
"$python" "$here/logins.py" "$host" "$port" "$work/ca.pem"
grep -q 'refused a login' "$work/serve-tls.log"
java -cp "$jar" "$here/Clients.java" "$port" "$work/readings.ndjson" \
    "$host" "all&password=secret-all&sslmode=verify-full&sslrootcert=$work/ca.pem"
# A new certificate and a new user are there without a restart; a removed one is gone.
serial() { openssl s_client -starttls postgres -connect "$host:$port" </dev/null 2>/dev/null | openssl x509 -noout -serial; }
before=$(serial)
certificate
[[ $(serial) != "$before" ]]
rm "$work/users.toml"
user later --location 'plant-*'
[[ $(ask_as later -Atc 'SELECT count(*) FROM readings') == "$rows" ]]
if ask_as all -c 'SELECT 1' 2>/dev/null; then exit 1; fi
