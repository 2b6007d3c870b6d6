#!/usr/bin/env bash
# Avro, Protobuf and JSON Schema through a real schema registry (Apicurio, which speaks Confluent's interface), sent by Confluent's
# Python serializers: schemas that change in mid-topic, ids that nobody registered, and a registry that hangs and is killed while
# `ingest` runs; and one behind TLS with a login. What is stored has to equal what was sent. Needs a built iotctl (cargo build), Java 17, curl and, in `python`,
# pip install -r tests/registry/requirements.txt
# Usage: tests/registry/run.sh      (PYTHON=… or an active virtual environment; IOTCTL=… for another binary)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../servers.sh"
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
"$python" -c 'import confluent_kafka, fastavro'
address=127.0.64.1
url=http://$address:18080/apis/ccompat/v7
fail() { echo "$*" >&2; exit 1; }

# Maven cannot fetch it: the parent that its pom names was never published. It is read from where Maven reads, which its own model
# says. Kept outside the clone, as iotctl's own jars are.
central() {
    "$python" - "$(mvn --version | sed -n 's/^Maven home: //p')" <<'PYTHON'
import glob, re, sys, zipfile
[model] = glob.glob(f"{sys.argv[1]}/lib/maven-model-builder-*.jar")
pom = zipfile.ZipFile(model).read("org/apache/maven/model/pom-4.0.0.xml").decode()
print(re.search("<id>central</id>.*?<url>(.*?)</url>", pom, re.S)[1])
PYTHON
}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/iotctl/apicurio-registry-3.0.9
if [[ ! -e $cache/apicurio-registry-app-3.0.9-runner.jar ]]; then
    mkdir -p "$work/apicurio" "${cache%/*}"
    curl -sSf --retry 3 -o "$work/apicurio.tar.gz" \
        "$(central)/io/apicurio/apicurio-registry-app/3.0.9/apicurio-registry-app-3.0.9-all.tar.gz"
    echo "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43  $work/apicurio.tar.gz" | sha256sum --check --quiet
    tar -xzf "$work/apicurio.tar.gz" -C "$work/apicurio"
    rm -rf "$cache"
    mv "$work/apicurio" "$cache"
fi
start_registry() {
    java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=$address -Dquarkus.http.port=18080 \
        -Dapicurio.storage.sql.kind=h2 -Dapicurio.datasource.url="jdbc:h2:file:$work/registry;WRITE_DELAY=0" \
        -jar "$cache/apicurio-registry-app-3.0.9-runner.jar" >"$work/registry.log" 2>&1 &
    registry=$!
    pids+=("$registry")
    for _ in $(seq 300); do
        curl -sf -o /dev/null "$url/subjects" && return
        sleep 0.2
    done
    tail -20 "$work/registry.log" >&2
    fail "the registry does not answer"
}
start_registry
servers $address 18500
export IOTCTL_SCHEMA_REGISTRY_URL=$url IOTCTL_KAFKA_PARTITIONS=4 IOTCTL_SCHEMA_REGISTRY_TIMEOUT=2s

send() { "$python" "$here/send.py" "$1" $address:9092 "$url" "$2" "$work/$2.expected" "${@:3}"; }
use() { # a topic, keyspace and group of its own
    export IOTCTL_KAFKA_TOPIC=$1 IOTCTL_CASSANDRA_KEYSPACE=$1 IOTCTL_KAFKA_GROUP=$1
    "$iotctl" -q schema apply >/dev/null
}
compare() {
    readings 2026-01-01T00:00:00Z 2027-01-01T00:00:00Z >"$work/stored"
    "$python" "$here/compare.py" "$work/$1.expected" "$work/stored"
}
is() { # what, found, wanted
    [[ $2 == "$3" ]] || fail "$1: $2 and not $3"
}

for family in avro protobuf json; do
    echo "== $family: two versions of a schema, and messages at fault"
    use "$family"
    send "$family" "$family" --faults >/dev/null
    "$iotctl" -q ingest --until-end --mapping "$here/$family.toml" --format json >"$work/report"
    compare "$family"
    # JSON needs no schema to be read, so an id that nobody registered is no fault there: its reading is that of another message.
    wanted='{"not_in_format": 3, "unknown_schema": 7}'
    [[ $family != json ]] || wanted='{"not_in_format": 3}'
    is "dead letters" "$("$python" -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))["dead_letter_reasons"]))' "$work/report")" "$wanted"
    "$iotctl" -q audit --mapping "$here/$family.toml" >"$work/audit" || { cat "$work/audit"; fail "the audit of $family"; }
done

echo "== an unknown id stays a dead letter in a replay, and a sample is read by the registry's schema"
export IOTCTL_KAFKA_TOPIC=avro IOTCTL_CASSANDRA_KEYSPACE=avro IOTCTL_KAFKA_GROUP=avro
"$iotctl" -q dead-letters replay --mapping "$here/avro.toml" >"$work/replay"
grep -Eq 'refused again.* 10' "$work/replay" || { cat "$work/replay"; fail "the replay"; }
"$iotctl" -q dead-letters export >"$work/letter"
"$python" - "$work/letter" >"$work/sample" <<'PY'
import base64, json, sys
for line in open(sys.argv[1]):
    letter = json.loads(line)
    if letter["reason"] == "unknown_schema":
        payload = bytes.fromhex(letter["payload_hex"]) if "payload_hex" in letter else letter["payload"].encode()
        print(json.dumps({"topic": "avro", "value_base64": base64.b64encode(payload).decode()}))
        break
PY
if "$iotctl" -q mapping test "$here/avro.toml" --samples "$work/sample" >"$work/test" 2>&1; then fail "a sample with an unknown id"; fi
grep -q 'has no schema 4000000' "$work/test" || { cat "$work/test"; fail "the sample"; }

# The state of the registry while the second half of a topic, in a schema that no one has asked for yet, arrives.
away() { # topic, how the registry goes away, how it comes back
    echo "== the registry is away in mid-topic: $2"
    use "$1"
    "$iotctl" ingest --mapping "$here/avro.toml" --metrics-addr $address:18081 >"$work/$1.out" 2>"$work/$1.log" &
    ingest=$!
    pids+=("$ingest")
    coproc sender { send avro "$1" --wait; }
    # bash forgets both when it ends.
    local from=${sender[0]} to=${sender[1]} sender_pid=$sender_PID
    read -r line <&"$from"
    is "the sender" "$line" half
    metric() { curl -sf "http://$address:18081/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
    until_metric() { # name, value
        for _ in $(seq 300); do
            [[ $(metric "$1") != "$2" ]] || return 0
            sleep 0.1
        done
        tail -5 "$work/$IOTCTL_KAFKA_TOPIC.log"; tail -5 "$work/registry.log"
        fail "$1 is $(metric "$1") and not $2"
    }
    until_metric iotctl_ingest_rows_total 1000
    eval "$2"
    echo go >&"$to"
    read -r line <&"$from"
    is "the sender" "$line" sent
    until_metric iotctl_ingest_waiting_for_schema 1
    for _ in $(seq 100); do
        ready=$(curl -s "http://$address:18081/readyz")
        [[ $ready != *"schema registry $url"* ]] || break
        sleep 0.1
    done
    [[ $ready == *"schema registry $url"* ]] || fail "/readyz says: $ready"
    # Longer than the session of a member of the consumer group that does not poll.
    sleep "${3:-0}"
    is "rows" "$(metric iotctl_ingest_rows_total)" 1000
    is "waiting" "$(metric iotctl_ingest_waiting_for_schema)" 1
    eval "$4"
    until_metric iotctl_ingest_rows_total 2000
    until_metric iotctl_ingest_waiting_for_schema 0
    [[ -z $(metric 'iotctl_ingest_dead_letters_total{reason="unknown_schema"}') ]] || fail "dead letters"
    is "times that it is logged" "$(grep -c 'waiting: .*messages stay in the topic' "$work/$1.log")" 1
    is "rebalances" "$(metric iotctl_ingest_rebalances_total)" 1
    kill -TERM "$ingest"
    wait "$ingest" || fail "ingest ended with $?"
    wait "$sender_pid" 2>/dev/null || true
    compare "$1"
    "$iotctl" -q audit --mapping "$here/avro.toml" >"$work/audit" || { cat "$work/audit"; fail "the audit"; }
}
away hung 'kill -STOP $registry' 5 'kill -CONT $registry'
away killed 'kill -9 $registry' 15 'start_registry'
echo "== the registry behind TLS and a login"
for name in proxy other; do # an authority each, and for the first a certificate of its own
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "/CN=$name authority" \
        -keyout "$work/$name-ca.key" -out "$work/$name-ca.pem" 2>/dev/null
done
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=registry -keyout "$work/proxy.key" -out "$work/proxy.csr" 2>/dev/null
openssl x509 -req -in "$work/proxy.csr" -CA "$work/proxy-ca.pem" -CAkey "$work/proxy-ca.key" -days 1 -out "$work/proxy.pem" \
    -extfile <(printf 'subjectAltName=IP:%s\nbasicConstraints=CA:FALSE\n' "$address") 2>/dev/null
secret='p:ss wörd'
"$python" "$here/proxy.py" $address:18443 "http://$address:18080" "$work/proxy.pem" "$work/proxy.key" "reader:$secret" >"$work/proxy.log" 2>&1 &
pids+=("$!")
for _ in $(seq 100); do
    curl -s --cacert "$work/proxy-ca.pem" -o /dev/null "https://$address:18443/" && break
    sleep 0.1
done
use tls
send avro tls --faults >/dev/null
export IOTCTL_SCHEMA_REGISTRY_URL=https://$address:18443/apis/ccompat/v7 IOTCTL_SCHEMA_REGISTRY_CA_FILE=$work/proxy-ca.pem
# Each of these is a matter of the registry and not of a message: nothing is buried, and /readyz says what to set.
refused() { # password, authority, words
    echo "== waits: $3"
    IOTCTL_SCHEMA_REGISTRY_USERNAME=reader IOTCTL_SCHEMA_REGISTRY_PASSWORD=$1 IOTCTL_SCHEMA_REGISTRY_CA_FILE=$2 \
        "$iotctl" ingest --mapping "$here/avro.toml" --metrics-addr $address:18081 >"$work/tls.out" 2>"$work/tls.log" &
    ingest=$!
    pids+=("$ingest")
    for _ in $(seq 300); do
        ready=$(curl -s "http://$address:18081/readyz" || true)
        [[ $ready != *"$3"* ]] || break
        sleep 0.1
    done
    [[ $ready == *"$3"* ]] || { cat "$work/tls.log" >&2; fail "/readyz says: $ready"; }
    grep -q "waiting: .*$3" "$work/tls.log" || { cat "$work/tls.log" >&2; fail "the log does not say $3"; }
    ! grep -qF -- "$1" "$work/tls.log" || fail "the log has the password"
    is "rows" "$(metric iotctl_ingest_rows_total)" 0
    is "waiting" "$(metric iotctl_ingest_waiting_for_schema)" 1
    kill -TERM "$ingest"
    wait "$ingest" || fail "ingest ended with $?"
    is "committed" "$("$iotctl" -q dead-letters summary --format ndjson | wc -l)" 0
}
refused wrong "$work/proxy-ca.pem" schema_registry.username
refused "$secret" "$work/other-ca.pem" schema_registry.ca_file
(umask 077 && printf '%s\n' "$secret" >"$work/password")
export IOTCTL_SCHEMA_REGISTRY_USERNAME=reader IOTCTL_SCHEMA_REGISTRY_PASSWORD_FILE=$work/password
"$iotctl" -q ingest --until-end --mapping "$here/avro.toml" --format json >"$work/report"
compare tls
is "dead letters" "$("$python" -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))["dead_letter_reasons"]))' "$work/report")" \
    '{"not_in_format": 3, "unknown_schema": 7}'
"$iotctl" -q audit --mapping "$here/avro.toml" >"$work/audit" || { cat "$work/audit"; fail "the audit"; }
grep -q '^200 ' "$work/proxy.log" || fail "the proxy was not asked"
echo "== all equal"
