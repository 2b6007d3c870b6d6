#!/usr/bin/env bash
# Spark equals iotctl: runs jobs of spark/ in local mode against a running Cassandra and compares each value with a brute
# force over `iotctl query --format ndjson`. Not part of `cargo test`: a job takes about a minute.
#
# usage: IOTCTL=target/debug/iotctl tests/spark/run.sh FROM TO
# Needs the stored readings of FROM..TO, Spark 3.5 (SPARK_HOME, VIRTUAL_ENV or PATH) and pyarrow in `python`
# (PYTHON=…). Settings come from IOTCTL_* variables, as for every command. Bounded: 10 minutes a job.
set -euo pipefail
from=$1 to=$2
iotctl=${IOTCTL:-iotctl}
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$iotctl" -q sensors --format ndjson >"$work/sensors.ndjson"
"$python" - "$work/sensors.ndjson" <<'PY' >"$work/groups.tsv"
import json, sys
sensors = map(json.loads, open(sys.argv[1]))
for location, device_type in sorted({(sensor["location"], sensor["device_type"]) for sensor in sensors}):
    print(location, device_type, sep="\t")
PY
while IFS=$'\t' read -r location device_type; do
    "$iotctl" -q query --location "$location" --device-type "$device_type" --from "$from" --to "$to" \
        --format ndjson </dev/null
done <"$work/groups.tsv" >"$work/readings.ndjson"
for job in hourly_aggregates daily_aggregates fleet_health; do
    timeout 600 "$iotctl" batch run "$job" --master 'local[1]' --from "$from" --to "$to" --output "$work/$job" \
        </dev/null 2>"$work/$job.log" || { tail -40 "$work/$job.log" >&2; exit 1; }
done
"$python" "$here/compare.py" "$work"
