#!/usr/bin/env bash
# The pipeline against its ceiling, in one run on the same servers:
#   1. `simulate` loads N messages into a topic of its own,
#   2. benches/ceiling.rs writes the same N rows straight from memory (the ceiling), into a keyspace of its own,
#   3. `ingest --until-end` drains the topic,
#   4. with MAPPED=1: the same readings as nested JSON (benches/nested.toml), and as Avro (benches/avro.toml) where PYTHON has
#      confluent-kafka and fastavro,
#   5. with DETECT=1: the same topic drained with the rules of RULES (benches/online.toml), without and with snapshots of their state,
# for ROUNDS rounds (2), and prints rows/s, client CPU-seconds per million rows, peak RSS and the ratio.
#
# The servers are not the same from minute to minute: of 4 and 5, each drain stands between two plain ones (3), and its ratio is
# that to the mean of these two.
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

# A drain of a topic by a group of its own into a keyspace of its own: its name, the topic, and further arguments.
drain() {
    local as=$1 topic=$2
    shift 2
    local settings=(-O "cassandra.keyspace=${name}_$as" -O "kafka.topic=$topic" -O "kafka.group=${name}_$as" "${options[@]}")
    "$iotctl" -q "${settings[@]}" schema apply --skip-kafka >/dev/null
    "$timer" -f '%U %S %M' -o "$work/$as.time" "$iotctl" -q "${settings[@]}" ingest "$@" --until-end --format json >"$work/$as.json"
}

# A drain, and a plain one after it.
beside() {
    drain "$@"
    plain=$((plain + 1))
    drain "plain_$plain" "$name"
    compared+=("$1")
}

stamp=$(date +%s)
for round in $(seq "$rounds"); do
    name="bench_${stamp}_$round"
    settings=(-O "cassandra.keyspace=$name" -O "kafka.topic=$name" -O "kafka.group=$name" "${options[@]}")
    "$iotctl" -q "${settings[@]}" schema apply >/dev/null
    fleet=(simulate --rate 0 --count "$count" --seed "$round" --start 2026-01-01T00:00:00Z --step 1s)
    "$iotctl" -q "${settings[@]}" "${fleet[@]}" --format json >"$work/simulate.json"
    "$iotctl" -q "${fleet[@]}" --stdout >"$work/readings"
    direct=("${settings[@]}" -O "cassandra.keyspace=${name}_direct")
    "$iotctl" -q "${direct[@]}" schema apply --skip-kafka >/dev/null
    "$timer" -f '%U %S %M' -o "$work/ceiling.time" "$ceiling" --readings "$work/readings" "${direct[@]}" >"$work/ceiling.json"
    plain=0 compared=()
    drain plain_0 "$name"
    if [[ -n ${MAPPED:-} ]]; then
        topic() { "$iotctl" -q "${settings[@]}" -O "kafka.topic=$1" schema apply >/dev/null; }
        topic "${name}_nested"
        python3 benches/nested.py <"$work/readings" >"$work/nested"
        kcat -P -b "$(server "${options[@]}")" -t "${name}_nested" -K $'\t' -z lz4 -l "$work/nested"
        beside nested "${name}_nested" --mapping benches/nested.toml
        if "${PYTHON:-python3}" -c 'import confluent_kafka, fastavro' 2>/dev/null; then
            topic "${name}_avro"
            "${PYTHON:-python3}" benches/avro_topic.py "$(server "${options[@]}")" "${name}_avro" <"$work/readings"
            beside avro "${name}_avro" --mapping benches/avro.toml
        else
            echo "no Avro: PYTHON has no confluent-kafka or no fastavro" >&2
        fi
    fi
    if [[ -n ${DETECT:-} ]]; then
        # The longest interval: no snapshot but the one at the end.
        for every in 10m 30s; do
            IOTCTL_INGEST_DETECTOR_SNAPSHOT_INTERVAL=$every \
                beside "rules_$every" "$name" --detect "${RULES:-benches/online.toml}"
        done
    fi
    python3 - "$work" "$count" "$round" "${compared[@]}" <<'PYTHON'
import json, sys
work, count, round_, *compared = sys.argv[1:]
count = int(count)
def report(name):
    return json.load(open(f"{work}/{name}.json"))
def drained(name):
    found = report(name)
    assert found["rows"] == count, (name, found)
    user, system, kib = open(f"{work}/{name}.time").read().split()[-3:]
    rate, cpu = found["rows_per_second"], (float(user) + float(system)) / count * 1e6
    return rate, f"{rate:,.0f} rows/s at {cpu:.2f} CPU-s/1M, {int(kib) / 1024:.0f} MiB peak"
simulate, ceiling = report("simulate"), report("ceiling")["rows_per_second"]
rate, text = drained("plain_0")
print(f"round {round_}: simulate {simulate['acknowledged'] / simulate['elapsed_seconds']:,.0f} msg/s | "
      f"ceiling {ceiling:,.0f} rows/s | ingest {text} | ratio {rate / ceiling:.2f}")
names = {"nested": "nested JSON by a mapping", "avro": "Avro by a mapping",
         "rules_10m": "with rules", "rules_30s": "with rules, snapshots every 30 s"}
for index, name in enumerate(compared):
    (before, _), (after, beside) = drained(f"plain_{index}"), drained(f"plain_{index + 1}")
    rate, text = drained(name)
    alerts = f", {report(name)['alerts']} alerts" if name.startswith("rules") else ""
    print(f"round {round_}: {names[name]} {text}{alerts} | plain {before:,.0f} and {beside} | "
          f"ratio {2 * rate / (before + after):.2f}")
PYTHON
done
