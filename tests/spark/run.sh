#!/usr/bin/env bash
# Spark equals iotctl: every job of spark/ in local mode on a real Cassandra, written to Parquet and to a table, each value
# compared with a brute force over `iotctl query`. The readings come late, twice, with values missing, and for a part of the
# fleet in buckets of two widths. A comparison with one reading changed, or left out, has to fail. Not part of `cargo test`:
# it takes about four minutes. Needs a built iotctl (cargo build) and, in `python`,
#   pip install -r spark/requirements.txt pyarrow cassandra-driver
# Usage: tests/spark/run.sh      (PYTHON=… or an active virtual environment; IOTCTL=… for another binary)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../servers.sh"
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
SPARK_HOME=${SPARK_HOME:-$("$python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')}
PYSPARK_PYTHON=${PYSPARK_PYTHON:-$("$python" -c 'import sys; print(sys.executable)')}
export SPARK_HOME PYSPARK_PYTHON

export IOTCTL_CASSANDRA_KEYSPACE=spark
servers 127.0.62.1 18300
for topic in mixed plain; do
    IOTCTL_KAFKA_TOPIC=$topic "$iotctl" -q schema apply >/dev/null
done

simulate() {
    "$iotctl" -q --topic "$1" simulate --rate 0 --sensors 20 --locations 2 --step 10m --count 2880 --missing 0.1 \
        --duplicate 0.02 --out-of-order 0.05 --seed "$2" --start "$3" --device-types "$4" --format json >/dev/null
}
ingest() {
    "$iotctl" -q --topic "$1" -O "kafka.group=$2" -O "schema.bucket=$3" ingest --until-end --format json >/dev/null
}
# Its first day is stored in buckets of a day, and again, with its second day, in buckets of an hour.
simulate mixed 1 2026-03-07T00:00:00Z thermostat,weather-station
ingest mixed before 1d
simulate mixed 1 2026-03-08T00:00:00Z thermostat,weather-station
ingest mixed after 1h
simulate plain 2 2026-03-07T12:00:00Z motion-detector,air-quality
ingest plain after 1h

# In the middle of hours and days, so that what is outside must be left out.
from=2026-03-07T01:30:00Z to=2026-03-08T20:15:00Z
readings "$from" "$to" >"$work/readings.ndjson"

compare() { "$python" "$here/compare.py" "$1" "$work/$2" "$IOTCTL_LOCAL_ADDRESS" "$IOTCTL_CASSANDRA_KEYSPACE" "$2"; }
# One value a hundredth higher, and one reading less.
sed -E '1,/"temperature":/ s/"temperature":(-?[0-9]+)(\.[0-9]+)?/"temperature":\1.987/' "$work/readings.ndjson" >"$work/changed.ndjson"
sed 100d "$work/readings.ndjson" >"$work/fewer.ndjson"
for job in hourly_aggregates daily_aggregates fleet_health anomaly_training_set; do
    timeout 600 "$iotctl" batch run "$job" --master 'local[2]' --from "$from" --to "$to" --output "$work/$job" \
        --table "$job" </dev/null 2>"$work/$job.log" || { tail -40 "$work/$job.log" >&2; exit 1; }
    compare "$work/readings.ndjson" "$job"
    controls=(fewer)
    # How a sensor has been sending does not tell what it measured.
    [[ $job == fleet_health ]] || controls+=(changed)
    for control in "${controls[@]}"; do
        if compare "$work/$control.ndjson" "$job" >"$work/control" 2>&1; then
            echo "$job: a comparison that should fail ($control) did not" >&2
            exit 1
        fi
        # By a difference, not by an error of its own.
        grep -q 'Spark' "$work/control" || { cat "$work/control" >&2; exit 1; }
    done
done
# A job that runs again writes the same rows over themselves.
"$iotctl" batch run daily_aggregates --master 'local[2]' --from "$from" --to "$to" --table daily_aggregates \
    </dev/null 2>"$work/again.log" || { tail -40 "$work/again.log" >&2; exit 1; }
compare "$work/readings.ndjson" daily_aggregates
