#!/usr/bin/env bash
# Builds images under the names of docker-compose.yml on a Debian bookworm with a Docker engine and without an image
# registry: Debian's packages, the jars that `iotctl up` has fetched, and small entrypoints that honour what the compose
# file uses of the official images. They prove the compose file; they are not those images. As root; needs debootstrap,
# busybox-static, prometheus and prometheus-node-exporter on this machine, and an iotctl that was built here.
#   docker/stand-in/build.sh target/release/iotctl
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
iotctl=$(realpath "${1:?"give the path of an iotctl binary"}")
jars=${IOTCTL_LOCAL_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/iotctl}/jars
work=$(mktemp -d /var/tmp/iotctl-stand-in.XXXXXX)
trap 'umount "$work/java/proc" 2>/dev/null || true; rm -rf "$work"' EXIT

tag() { sed -n "s|^ *image: *\($1:.*\)$|\1|p" "$root/docker-compose.yml" | head -1; }
has() { docker image inspect "$1" >/dev/null 2>&1; }
folder() { find "$jars" -maxdepth 1 -type d -name "$1-????????????" | head -1; }
# build FOLDER IMAGE FILE…: an image of the folder's files and these.
build() {
    local folder=$1 image=$2
    shift 2
    rm -rf "$work/context"
    cp -r "$here/$folder" "$work/context"
    while (($#)); do cp -rL "$1" "$work/context/$2"; shift 2; done
    echo "$image"
    docker build -q --network none -t "$image" "$work/context"
}

if ! has debian:bookworm-slim; then
    debootstrap --variant=minbase bookworm "$work/debian"
    tar -C "$work/debian" -c . | docker import - debian:bookworm-slim
fi
if ! has stand-in-java:17; then
    debootstrap --variant=minbase --include=procps,hostname bookworm "$work/java"
    mkdir -p "$work/java/usr/share/man/man1"
    mount -t proc proc "$work/java/proc"
    chroot "$work/java" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless
    umount "$work/java/proc"
    tar -C "$work/java" -c . | docker import - stand-in-java:17
fi
build cassandra "$(tag cassandra)" "$(folder cassandra)" jars
build kafka "$(tag apache/kafka)" "$(folder kafka)" jars
build kafka "$(tag confluentinc/cp-kafka)" "$(folder kafka-zookeeper)" jars
build zookeeper "$(tag confluentinc/cp-zookeeper)" "$(folder kafka-zookeeper)" jars
build prometheus "$(tag prom/prometheus)" "$(command -v prometheus)" prometheus "$(command -v promtool)" promtool "$(command -v busybox)" wget
build node-exporter "$(tag prom/node-exporter)" "$(command -v prometheus-node-exporter)" prometheus-node-exporter
mkdir "$work/agent"
cp "$(folder jmx-exporter)"/jmx_prometheus_javaagent-*.jar "$work/agent/jmx_prometheus_javaagent.jar"
cp "$root"/monitoring/jmx_exporter/*.yml "$work/agent/"
build iotctl "$(tag iotctl)" "$iotctl" iotctl "$work/agent" agent
