#!/usr/bin/env bash
# How soon the dashboard's first chart is there on a fleet of 1,000 sensors with a day of readings, and how large the page is; in
# Debian's Chromium, without its cache. It prints figures and fails only above 150 kB. Needs what run.sh needs. Usage:
#   tests/dashboard/speed.sh [SENSORS] [STEP]      default: 1000 sensors, one reading each per 5m
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sensors=${1:-1000} step=${2:-5m}
for tool in node npm chromium; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (Debian: apt-get install -y nodejs npm chromium)" >&2; exit 1; }
done
. "$here/../servers.sh"
cp "$here"/package.json "$here"/package-lock.json "$here"/speed.mjs "$work/"
npm ci --prefix "$work" --no-audit --no-fund --loglevel=error
cd "$work"
name=speed_$$
export IOTCTL_CASSANDRA_KEYSPACE=$name IOTCTL_KAFKA_TOPIC=$name IOTCTL_KAFKA_GROUP=$name
if [[ -n ${DASHBOARD_TEST_SERVERS:-} ]]; then
    use_servers "$DASHBOARD_TEST_SERVERS"
else
    servers 127.0.75.1 19200
fi
"$iotctl" -q schema apply >/dev/null
case $step in
    *m) seconds=$((${step%m} * 60)) ;;
    *s) seconds=${step%s} ;;
    *) echo "STEP is not like 5m or 30s" >&2; exit 2 ;;
esac
count=$((sensors * 86400 / seconds))
echo "$sensors sensors, $count readings of a day"
"$iotctl" -q simulate --rate 0 --count "$count" --sensors "$sensors" --locations 4 --start "$(date -u -d '-24 hours' +%FT%TZ)" \
    --step "$step" --format json >/dev/null
"$iotctl" -q ingest --until-end --format json >/dev/null
for run in 1 2 3; do
    "$iotctl" dashboard --addr "$IOTCTL_LOCAL_ADDRESS:0" 2>"$work/dashboard.log" & dashboard=$!
    pids+=("$dashboard")
    url=""
    for _ in $(seq 100); do
        url=$(sed -n 's/^dashboard on \(http:[^,]*\),.*/\1/p' "$work/dashboard.log")
        [[ -z $url ]] || break
        sleep 0.1
    done
    [[ -n $url ]] || { cat "$work/dashboard.log" >&2; exit 1; }
    echo "== dashboard $run"
    node speed.mjs "$url"
    kill "$dashboard"
done
