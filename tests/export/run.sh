#!/usr/bin/env bash
# What `iotctl export` writes is what others read: DuckDB opens a partitioned folder of Parquet, one Parquet file, CSV and
# NDJSON, and finds the types of docs/export-and-spark.md and every value of `iotctl query`, each reading once, though half of them are
# stored in buckets of two widths. A comparison with one value changed, or one reading left out, has to fail. Needs a built
# iotctl (cargo build) and, in `python`, pip install -r tests/export/requirements.txt
# Usage: tests/export/run.sh      (PYTHON=… or an active virtual environment; IOTCTL=… for another binary)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../servers.sh"
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
"$python" -c 'import duckdb'
servers 127.0.63.1 18400
"$iotctl" -q schema apply >/dev/null
simulate() {
    "$iotctl" -q simulate --rate 0 --sensors 60 --locations 2 --step 10m --count 4320 --missing 0.1 --start "$1" \
        --format json >/dev/null
}
simulate 2026-03-07T00:00:00Z
"$iotctl" -q -O kafka.group=before -O schema.bucket=1d ingest --until-end --format json >/dev/null
simulate 2026-03-07T12:00:00Z
"$iotctl" -q -O kafka.group=after -O schema.bucket=1h ingest --until-end --format json >/dev/null

from=2026-03-07T01:30:00Z to=2026-03-07T23:15:00Z
readings "$from" "$to" >"$work/readings.ndjson"
export_to() { "$iotctl" -q export --from "$from" --to "$to" --output "$work/$1" "${@:2}" >/dev/null; }
export_to lake --format parquet --partition-by location,device_type,day
export_to one.parquet
export_to csv --format csv
export_to ndjson --format ndjson
"$python" "$here/compare.py" "$work/readings.ndjson" "$work"

# One value, and one reading less.
sed -E '0,/"temperature":-?[0-9.]+/ s//"temperature":99.75/' "$work/readings.ndjson" >"$work/changed.ndjson"
sed 100d "$work/readings.ndjson" >"$work/fewer.ndjson"
for control in changed fewer; do
    if "$python" "$here/compare.py" "$work/$control.ndjson" "$work" >"$work/control" 2>&1; then
        echo "a comparison that should fail ($control) did not" >&2
        exit 1
    fi
    # By a difference, not by an error of its own.
    grep -q '^DuckDB ' "$work/control" || { cat "$work/control" >&2; exit 1; }
done

# And what others write is what `iotctl import` reads: each compression, type and dialect of pandas, pyarrow, polars, DuckDB
# and Excel.
"$python" "$here/writers.py" write "$work/files"
"$iotctl" -q import --direct --max-errors 0 "$work/files" >/dev/null
readings 2026-03-07T12:00:00Z 2026-03-07T12:01:00Z | grep -v '"location":"plant-' >"$work/imported.ndjson"
"$python" "$here/writers.py" compare "$work/files" "$work/imported.ndjson"
