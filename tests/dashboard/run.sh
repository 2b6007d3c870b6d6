#!/usr/bin/env bash
# The dashboard in a real browser, on real data: servers by `iotctl up` at an address of its own, a simulated fleet, and
# Debian's Chromium. Needs node with npm, chromium, and a built iotctl (cargo build). Usage:
#   tests/dashboard/run.sh                                  the test
#   tests/dashboard/run.sh --screenshots FOLDER             and light.png, dark.png, phone.png of it
#   DASHBOARD_TEST_SERVERS=ADDRESS tests/dashboard/run.sh      on servers that run already at ADDRESS (ports 9042 and 9092)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
screenshots=""
if [[ ${1:-} == --screenshots ]]; then
    mkdir -p "${2:?a folder}"
    screenshots=$(cd "$2" && pwd)
fi
for tool in node npm chromium; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (Debian: apt-get install -y nodejs npm chromium)" >&2; exit 1; }
done
# What needs no browser, first.
node --test "$here"/*.test.mjs
. "$here/../servers.sh"
cp "$here"/package.json "$here"/package-lock.json "$here"/page.mjs "$work/"
npm ci --prefix "$work" --no-audit --no-fund --loglevel=error
cd "$work"
name=dashboard_$$
export IOTCTL_CASSANDRA_KEYSPACE=$name IOTCTL_KAFKA_TOPIC=$name IOTCTL_KAFKA_GROUP=$name
if [[ -n ${DASHBOARD_TEST_SERVERS:-} ]]; then
    use_servers "$DASHBOARD_TEST_SERVERS"
else
    servers 127.0.61.1 18200
fi
"$iotctl" -q schema apply >/dev/null

# A day of 48 sensors at four locations, up to now; and two that fell silent hours ago.
ago() { date -u -d "$1" +%FT%TZ; }
"$iotctl" -q simulate --rate 0 --count 138240 --sensors 48 --locations 4 --start "$(ago '-24 hours')" --step 30s \
    --missing 0.02 --extremes 0.0004 --format json >/dev/null
"$iotctl" -q simulate --seed 7 --rate 0 --count 600 --sensors 2 --locations 2 --start "$(ago '-9 hours')" --step 1m \
    --device-types hygrometer --format json >/dev/null
"$iotctl" -q ingest --until-end --format json >/dev/null
# The same fleet goes on while the page is open.
"$iotctl" -q simulate --rate 6 --sensors 48 --locations 4 --extremes 0 --format json >/dev/null & pids+=($!)
printf '[[rule]]\nname = "scalding"\nseverity = "critical"\nmetric = "temperature"\nthreshold = { above = 90.0 }\n' > rules.toml
"$iotctl" -q ingest --detect rules.toml --format json >/dev/null & pids+=($!)
"$iotctl" dashboard --addr "$IOTCTL_LOCAL_ADDRESS:0" 2>"$work/dashboard.log" & pids+=($!)
for _ in $(seq 100); do
    url=$(sed -n 's/^dashboard on \(http:[^,]*\),.*/\1/p' "$work/dashboard.log")
    [[ -z $url ]] || break
    sleep 0.1
done
[[ -n $url ]] || { cat "$work/dashboard.log" >&2; exit 1; }
# The same with a login.
export IOTCTL_HTTP_TOKENS_FILE=$work/tokens
OPERATOR=$("$iotctl" -q token add ada --role operator)
VIEWER=$("$iotctl" -q token add bob --role viewer)
"$iotctl" dashboard --addr "$IOTCTL_LOCAL_ADDRESS:0" 2>"$work/login.log" & pids+=($!)
unset IOTCTL_HTTP_TOKENS_FILE
for _ in $(seq 100); do
    LOGIN_URL=$(sed -n 's/^dashboard on \(http:[^,]*\),.*/\1/p' "$work/login.log")
    [[ -z $LOGIN_URL ]] || break
    sleep 0.1
done
[[ -n $LOGIN_URL ]] || { cat "$work/login.log" >&2; exit 1; }
export OPERATOR VIEWER LOGIN_URL
IOTCTL=$iotctl SCREENSHOTS=$screenshots node page.mjs "$url"
