#!/usr/bin/env bash
# User-space instructions per message for decoding it, by callgrind: of the built-in format, of the same reading as nested JSON
# by a mapping, and as Avro by a mapping. They do not depend on the machine's load. Each is run over SMALL and over LARGE
# messages and the difference is divided by the messages between them, so that the start is not in it. Needs valgrind.
#
#   benches/decode_instructions.sh
set -euo pipefail
cd "$(dirname "$0")/.."
small=${SMALL:-1000} large=${LARGE:-11000}
target=${CARGO_TARGET_DIR:-target}
cargo bench --bench decode_cost --no-run --locked --quiet
bench=$(find "$target/release/deps" -maxdepth 1 -name 'decode_cost-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

instructions() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$bench" "$1" "$2" 2>"$work/stderr" >/dev/null ||
        { tail -5 "$work/stderr" >&2; exit 1; }
    sed -n 's/^\(summary\|totals\): *\([0-9]*\).*/\2/p' "$work/out" | head -1
}

for kind in built-in nested avro; do
    before=$(instructions "$kind" "$small")
    after=$(instructions "$kind" "$large")
    printf '%-10s %8d instructions per message\n' "$kind" $(((after - before) / (large - small)))
done
