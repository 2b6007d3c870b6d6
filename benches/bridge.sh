#!/usr/bin/env bash
# 1,000 MQTT clients at 2,000 messages/s for 60 s through mosquitto, `iotctl bridge mqtt` and Kafka, while mosquitto and the
# bridge are each killed once with SIGKILL. Every message that the clients published has to be in Kafka.
#
#   benches/bridge.sh [CLIENTS] [RATE] [SECONDS]
#
# Needs a Kafka with its topic: IOTCTL_* settings name them, or `iotctl up` runs. mosquitto listens on 127.0.0.77:18877.
set -euo pipefail
cd "$(dirname "$0")/.."
clients=${1:-1000} rate=${2:-2000} seconds=${3:-60}
iotctl=${IOTCTL:-target/release/iotctl}
host=127.0.0.77 port=18877
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
ulimit -n 8192

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'paho-mqtt==2.1.0' 'confluent-kafka==2.6.1'

cat >"$work/mosquitto.conf" <<END
user root
listener $port $host
allow_anonymous true
persistence true
persistence_location $work/
autosave_interval 10
max_queued_messages 0
max_connections -1
END
# Where Debian installs it is not in everybody's PATH.
PATH=$PATH:/usr/sbin
broker() {
    mosquitto -c "$work/mosquitto.conf" >/dev/null 2>&1 &
    broker=$!
    pids+=("$broker")
    disown "$broker"
}
bridge() {
    "$iotctl" --quiet bridge mqtt --broker "mqtt://$host:$port" --topic 'fleet/#' --client-id bench \
        --metrics-addr 127.0.0.77:9466 >"$work/report" 2>>"$work/bridge.log" &
    bridge=$!
    pids+=("$bridge")
}

broker
sleep 1
bridge
disown "$bridge"
sleep 3
"$work/venv/bin/python" benches/mqtt_fleet.py publish $host $port "$clients" "$rate" "$seconds" &
fleet=$!
sleep $((10 + seconds / 3))
kill -9 "$bridge"
sleep 3
bridge
sleep $((seconds / 3))
kill -9 "$broker"
sleep 2
broker
wait "$fleet"
# What is left in the session.
sleep 10
memory=$(awk '/VmHWM/ {print $2 / 1024 " MiB"}' "/proc/$bridge/status")
kill -TERM "$bridge"
wait "$bridge"
echo "bridge: peak memory $memory"
cat "$work/report"
topic=${IOTCTL_KAFKA_TOPIC:-iot-analytics-topic}
brokers=${IOTCTL_KAFKA_BOOTSTRAP_SERVERS:-127.0.0.1:9092}
per_client=$(awk "BEGIN {print int($seconds / ($clients / $rate))}")
"$work/venv/bin/python" benches/mqtt_fleet.py count "$brokers" "$topic" $((clients * per_client))
