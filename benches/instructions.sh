#!/usr/bin/env bash
# User-space instructions per row, by callgrind: they do not depend on the machine's load. What a start, a join of the
# consumer group and a report cost is taken out: each program runs over SMALL and over LARGE readings, and the difference is
# divided by the rows between them. Kernel instructions are not in it (the share of system time is in benches/pipeline.sh).
#
#   benches/instructions.sh PROGRAM…
#
# A PROGRAM is a path of an iotctl with symbols (cargo build --profile dist --config profile.dist.strip=false), or of the
# bench `ceiling` (cargo build --bench ceiling --profile dist --config profile.dist.strip=false). Needs valgrind and running
# servers (`iotctl up`); the first PROGRAM fills the topics. OPTIONS go to each iotctl, such as
# OPTIONS="-O cassandra.contact_points=127.0.42.1:9042 -O kafka.bootstrap_servers=127.0.42.1:9092".
# Everything it writes is in keyspaces and topics named instr_….
set -euo pipefail
small=${SMALL:-20000} large=${LARGE:-120000}
read -ra options <<<"${OPTIONS:-}"
first=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stamp=$(date +%s)

# Each function is a share of one of these, by its name.
classify='
/^ *[0-9,]+ +\(/ {
    cost = $1; gsub(",", "", cost)
    name = $0
    share = "iotctl, tokio and the rest"
    if (name ~ /:(rd_|rk|crc32c|LZ4|XXH|snappy|mtx_|cnd_|thrd_)/) share = "librdkafka"
    else if (name ~ /(libc\.so|ld-linux|libpthread|libm\.so)/) share = "libc (memory, sockets, threads)"
    sum[share] += cost
}
END { for (share in sum) printf "%s\t%d\n", share, sum[share] }'

run() {
    local program=$1 count=$2 name=$3 out=$4
    local settings=(-O "cassandra.keyspace=$name" -O "kafka.topic=${name%_*}" -O "kafka.group=$name" "${options[@]}")
    if [[ $(basename "$program") == ceiling* ]]; then
        set -- "$program" --readings "$work/readings.$count" "${settings[@]}"
    else
        set -- "$program" -q "${settings[@]}" ingest --until-end
    fi
    valgrind --tool=callgrind --callgrind-out-file="$out" "$@" >"$out.stdout" 2>"$out.stderr" ||
        { tail -5 "$out.stderr" >&2; exit 1; }
    callgrind_annotate --auto=no --threshold=100 "$out" 2>/dev/null | awk "$classify" | sort >"$out.shares"
}

for count in "$small" "$large"; do
    topic="instr_${stamp}_$count"
    "$first" -q -O "cassandra.keyspace=${topic}_0" -O "kafka.topic=$topic" "${options[@]}" schema apply >/dev/null
    fleet=(simulate --rate 0 --count "$count" --seed 1 --start 2026-01-01T00:00:00Z --step 1s)
    "$first" -q -O "kafka.topic=$topic" "${options[@]}" "${fleet[@]}" >/dev/null
    "$first" -q "${fleet[@]}" --stdout >"$work/readings.$count"
done

index=0
for program in "$@"; do
    index=$((index + 1))
    for count in "$small" "$large"; do
        name="instr_${stamp}_${count}_$index"
        # Older programs have another schema: each applies its own.
        applier=$program
        if [[ $(basename "$program") == ceiling* ]]; then applier=$first; fi
        "$applier" -q -O "cassandra.keyspace=$name" "${options[@]}" schema apply --skip-kafka >/dev/null
        run "$program" "$count" "$name" "$work/$index.$count"
    done
    join -t $'\t' -a 2 -e 0 -o 0,1.2,2.2 "$work/$index.$small.shares" "$work/$index.$large.shares" |
        awk -F '\t' -v rows=$((large - small)) -v program="$program" '
            { each = ($3 - $2) / rows; sum += each; printf "%-50s %-34s %8.0f\n", program, $1, each }
            END { printf "%-50s %-34s %8.0f\n", program, "all, instructions per row", sum }'
done
