# Sourced by scripts of the folders beside it: servers of a script's own, by `iotctl up`, ended and deleted with the script.
# Gives $iotctl (IOTCTL=… for another than the debug build), a folder $work, and `servers`; processes whose ids are in `pids`
# are ended first.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
iotctl=${IOTCTL:-${CARGO_TARGET_DIR:-$root/target}/debug/iotctl}
[[ -x $iotctl ]] || { echo "$iotctl is not there (run cargo build, or set IOTCTL)" >&2; exit 1; }
iotctl=$(realpath "$iotctl")
work=$(mktemp -d)
pids=()
own_servers=no
end_all() {
    status=$?
    trap - EXIT
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [[ $own_servers == no ]] || "$iotctl" -q down --purge --yes >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap end_all EXIT
trap 'exit 130' INT TERM

# servers ADDRESS PORT: at an address of 127.0.0.0/8 (ports 9042 and 9092), PORT and the 99 after it for themselves.
use_servers() {
    export IOTCTL_LOCAL_DATA_DIR=$work/servers IOTCTL_LOCAL_ADDRESS=$1 XDG_CONFIG_HOME=$work/config
    export IOTCTL_LOCAL_BOOT_TIMEOUT=15m
    export IOTCTL_CASSANDRA_CONTACT_POINTS=$1:9042 IOTCTL_KAFKA_BOOTSTRAP_SERVERS=$1:9092
}
servers() {
    use_servers "$1"
    export IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT=$2 IOTCTL_LOCAL_CASSANDRA_JMX_PORT=$(($2 + 99))
    own_servers=yes
    "$iotctl" -q up >/dev/null
}

# readings FROM TO: all that iotctl has of the time, a line of JSON each, by `query` of each group. The simulated names
# have no commas.
readings() {
    "$iotctl" -q sensors --format csv | tail -n +2 | cut -d, -f1,2 | sort -u | while IFS=, read -r location device_type; do
        "$iotctl" -q query --location "$location" --device-type "$device_type" --from "$1" --to "$2" --format ndjson </dev/null
    done
}
