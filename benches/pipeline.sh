#!/usr/bin/env bash
# The pipeline against its ceiling, in one run on the same servers:
#   1. `simulate` loads N messages into a topic of its own,
#   2. benches/ceiling.rs writes the same N rows straight from memory (the ceiling), into a keyspace of its own,
#   3. `ingest --until-end` drains the topic,
#   4. with MAPPED=1: the same readings as nested JSON in a second topic, drained with benches/nested.toml,
#   5. with DETECT=1: the same topic drained with the rules of RULES (benches/online.toml), without and with snapshots of their state,
# in turn for ROUNDS rounds (2), and prints rows/s, client CPU-seconds per million rows, peak RSS and the ratio.
#
#   benches/pipeline.sh [N] [iotctl options, such as -O cassandra.contact_points=…]
#
# Needs running servers (`iotctl up`), GNU time, and kcat for MAPPED=1. Everything it writes is in a keyspace and topics named bench_….
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-500000}
shift || true
options=("$@")
rounds=${ROUNDS:-2}
target=${CARGO_TARGET_DIR:-target}

cargo build --release --locked --quiet
cargo bench --bench ceiling --no-run --locked --quiet
iotctl="$target/release/iotctl"
ceiling=$(find "$target/release/deps" -maxdepth 1 -name 'ceiling-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2)
timer=$(command -v gtime || command -v /usr/bin/time) || { echo "GNU time is missing (Debian: time)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The bootstrap servers among the options.
server() {
    local found
    found=$(printf '%s\n' "$@" | sed -n 's/^kafka\.bootstrap_servers=//p')
    echo "${found:-127.0.0.1:9092}"
}

stamp=$(date +%s)
for round in $(seq "$rounds"); do
    name="bench_${stamp}_$round"
    settings=(-O "cassandra.keyspace=$name" -O "kafka.topic=$name" -O "kafka.group=$name" "${options[@]}")
    "$iotctl" -q "${settings[@]}" schema apply >/dev/null
    fleet=(simulate --rate 0 --count "$count" --seed "$round" --start 2026-01-01T00:00:00Z --step 1s)
    "$iotctl" -q "${settings[@]}" "${fleet[@]}" --format json >"$work/simulate"
    "$iotctl" -q "${fleet[@]}" --stdout >"$work/readings"
    direct=("${settings[@]}" -O "cassandra.keyspace=${name}_direct")
    "$iotctl" -q "${direct[@]}" schema apply --skip-kafka >/dev/null
    "$timer" -f '%U %S %M' -o "$work/ceiling.time" "$ceiling" --readings "$work/readings" "${direct[@]}" >"$work/ceiling"
    "$timer" -f '%U %S %M' -o "$work/ingest.time" "$iotctl" -q "${settings[@]}" ingest --until-end --format json >"$work/ingest"
    rm -f "$work/mapped"
    if [[ -n ${MAPPED:-} ]]; then
        nested=("${settings[@]}" -O "cassandra.keyspace=${name}_nested" -O "kafka.topic=${name}_nested")
        "$iotctl" -q "${nested[@]}" schema apply >/dev/null
        python3 benches/nested.py <"$work/readings" >"$work/nested"
        kcat -P -b "$(server "${options[@]}")" -t "${name}_nested" -K $'\t' -z lz4 -l "$work/nested"
        "$timer" -f '%U %S %M' -o "$work/mapped.time" "$iotctl" -q "${nested[@]}" \
            ingest --mapping benches/nested.toml --until-end --format json >"$work/mapped"
    fi
    rm -f "$work"/detect*
    if [[ -n ${DETECT:-} ]]; then
        # The longest interval: no snapshot but the one at the end.
        for every in 10m 30s; do
            detect=("${settings[@]}" -O "cassandra.keyspace=${name}_detect_$every" -O "kafka.group=${name}_detect_$every"
                -O "ingest.detector_snapshot_interval=$every")
            "$iotctl" -q "${detect[@]}" schema apply >/dev/null
            "$timer" -f '%U %S %M' -o "$work/detect_$every.time" "$iotctl" -q "${detect[@]}" \
                ingest --detect "${RULES:-benches/online.toml}" --until-end --format json >"$work/detect_$every"
        done
    fi
    python3 - "$work" "$count" "$round" <<'PYTHON'
import json, os, sys
work, count, round_ = sys.argv[1], int(sys.argv[2]), sys.argv[3]
simulate, ceiling, ingest = (json.load(open(f"{work}/{name}")) for name in ("simulate", "ceiling", "ingest"))
def cost(name):
    user, system, kib = open(f"{work}/{name}.time").read().split()[-3:]
    return (float(user) + float(system)) / count * 1e6, int(kib) / 1024
assert ingest["rows"] == count, ingest
cpu, rss = cost("ingest")
print(f"round {round_}: simulate {simulate['acknowledged'] / simulate['elapsed_seconds']:,.0f} msg/s | "
      f"ceiling {ceiling['rows_per_second']:,.0f} rows/s | "
      f"ingest {ingest['rows_per_second']:,.0f} rows/s at {cpu:.2f} CPU-s/1M, {rss:.0f} MiB peak | "
      f"ratio {ingest['rows_per_second'] / ceiling['rows_per_second']:.2f}")
for every in ("10m", "30s"):
    if os.path.exists(f"{work}/detect_{every}"):
        detect = json.load(open(f"{work}/detect_{every}"))
        assert detect["rows"] == count, detect
        cpu, rss = cost(f"detect_{every}")
        print(f"round {round_}: with rules, snapshots every {every}: {detect['rows_per_second']:,.0f} rows/s at {cpu:.2f} CPU-s/1M, "
              f"{rss:.0f} MiB peak, {detect['alerts']} alerts | ratio to no rules "
              f"{detect['rows_per_second'] / ingest['rows_per_second']:.2f}")
if os.path.exists(f"{work}/mapped"):
    mapped = json.load(open(f"{work}/mapped"))
    assert mapped["rows"] == count, mapped
    cpu, rss = cost("mapped")
    print(f"round {round_}: mapped nested JSON {mapped['rows_per_second']:,.0f} rows/s at {cpu:.2f} CPU-s/1M, "
          f"{rss:.0f} MiB peak | ratio to the built-in format "
          f"{mapped['rows_per_second'] / ingest['rows_per_second']:.2f}")
PYTHON
done
