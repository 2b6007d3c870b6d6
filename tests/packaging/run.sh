#!/usr/bin/env bash
# iotctl as a service on this machine, as docs/operations.md says, without systemd: installed from the Debian package and by
# the documented steps. Each time the `ingest` unit's command line runs with the user, the modes, the umask and the
# notification socket that systemd would give it (DynamicUser: a user that owns nothing), stores readings, reports to the
# watchdog, and ends in order. Everything is removed again.
# Needs root, dpkg, setpriv, systemd-analyze, python3, and a built iotctl for the servers (cargo build).
# Usage: tests/packaging/run.sh PACKAGE.deb
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=$(realpath "${1:?usage: tests/packaging/run.sh PACKAGE.deb}")
[[ $(id -u) == 0 ]] || { echo "installing a package needs root" >&2; exit 1; }
if dpkg-query -W -f '${Status}' iotctl 2>/dev/null | grep -q installed; then
    echo "iotctl is installed here already: this script would remove it" >&2
    exit 1
fi
for place in /usr/local/bin/iotctl /etc/iotctl /etc/systemd/system/iotctl-{ingest,monitor}.service; do
    [[ ! -e $place ]] || { echo "$place exists: this script would replace it" >&2; exit 1; }
done
. "$here/../servers.sh"
servers 127.0.62.1 18600
built=$iotctl

remove_package() { DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq iotctl >/dev/null 2>&1 || true; }
remove_steps() {
    rm -rf /usr/local/bin/iotctl /etc/iotctl /etc/systemd/system/iotctl-{ingest,monitor}.service{,.d}
}
trap 'status=$?; remove_package; remove_steps; (exit $status); end_all' EXIT

step() { printf '== %s\n' "$*"; }
fail() {
    echo "$1" >&2
    [[ ! -s $work/service.log ]] || cat "$work/service.log" >&2
    exit 1
}
metric() { curl -fsS http://127.0.0.1:9464/metrics 2>/dev/null | sed -n "s/^$1 //p"; }

# configure UNIT: what an operator sets after the installation.
configure() {
    [[ $(stat -c %a /etc/iotctl/iotctl.toml) == 644 ]] || fail "a service cannot read /etc/iotctl/iotctl.toml"
    sed -i "s/^# *contact_points = .*/contact_points = [\"$IOTCTL_CASSANDRA_CONTACT_POINTS\"]/
            s/^# *bootstrap_servers = .*/bootstrap_servers = [\"$IOTCTL_KAFKA_BOOTSTRAP_SERVERS\"]/
            s/^# *topic = .*/topic = \"$1\"/
            s/^# *group = .*/group = \"$1\"/" /etc/iotctl/iotctl.toml
}

# start UNIT: runs the unit's command line in the background as systemd would; its id is in $service.
start() {
    local command umask
    command=$(sed -n 's/^ExecStart=//p' "$1")
    umask=$(sed -n 's/^UMask=//p' "$1")
    (
        cd / && umask "$umask"
        exec env -i PATH=/usr/local/bin:/usr/bin:/bin NOTIFY_SOCKET="$work/notify" WATCHDOG_USEC=2000000 \
            setpriv --reuid=61184 --regid=61184 --clear-groups --no-new-privs bash -c "exec $command"
    ) >"$work/service.log" 2>&1 &
    service=$!
    pids+=("$service")
}

# serve UNIT NAME: the service stores what is sent, reports to the supervisor, and ends with 0.
serve() {
    local unit=$1 name=$2 line file
    # systemd does not start a service whose credentials it cannot load.
    while IFS=: read -r line file; do
        [[ -e $file ]] || fail "$unit loads a credential from $file, which does not exist"
    done < <(sed -n 's/^LoadCredential=//p' "$unit")
    grep -q '^Type=notify$' "$unit" && grep -q '^WatchdogSec=' "$unit" || fail "$unit has no watchdog"
    configure "$name"
    env -i PATH=/usr/bin:/bin "$iotctl" --config /etc/iotctl/iotctl.toml -q schema apply >/dev/null
    env -i PATH=/usr/bin:/bin "$iotctl" --config /etc/iotctl/iotctl.toml -q simulate --count 5000 --rate 0 >/dev/null
    # As systemd's socket: every user may write to it.
    rm -f "$work/notify"
    python3 -u -c 'import os, socket, sys
supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
supervisor.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
while True:
    print(supervisor.recv(4096).decode().replace("\n", " "))' "$work/notify" >"$work/notified" &
    local supervisor=$!
    pids+=("$supervisor")
    chmod 755 "$work"
    for _ in $(seq 50); do [[ -S $work/notify ]] && break; sleep 0.1; done

    start "$unit"
    for _ in $(seq 240); do
        [[ $(metric iotctl_ingest_rows_total || true) == 5000 ]] && break
        kill -0 "$service" 2>/dev/null || fail "the service ended"
        sleep 0.5
    done
    [[ $(metric iotctl_ingest_rows_total) == 5000 ]] || fail "the service did not store 5000 rows"
    curl -fsS http://127.0.0.1:9464/readyz >/dev/null || fail "the service is not ready"
    sleep 3
    [[ $(head -1 "$work/notified") == "READY=1" ]] || fail "the service has not reported that it is up"
    (($(grep -c '^WATCHDOG=1 STATUS=at work' "$work/notified") >= 3)) || fail "no signs of life: $(cat "$work/notified")"
    # Frozen, it gives none: systemd would restart it.
    local process before
    process=$(pgrep -u 61184 -x iotctl)
    kill -STOP "$process"
    sleep 1
    before=$(wc -l <"$work/notified")
    sleep 3
    [[ $(wc -l <"$work/notified") == "$before" ]] || fail "signs of life of a frozen service"
    kill -CONT "$process"
    kill -TERM "$process"
    wait "$service" || fail "the service ended with $?"
    grep -q '^STOPPING=1' "$work/notified" || fail "the service has not reported that it stops"
    kill "$supervisor"
    echo "the service stored 5000 rows, gave signs of life, and ended with 0"

    # A wrong setting ends it with a status that the unit does not restart; servers that are down with one that it does.
    local prevent=" $(sed -n 's/^RestartPreventExitStatus=//p' "$unit") " status=0
    sed -i 's/^# *partitions = .*/partitions = "many"/' /etc/iotctl/iotctl.toml
    start "$unit"
    wait "$service" || status=$?
    [[ $status == 2 && $prevent == *" 2 "* && $prevent == *" 3 "* ]] || fail "a wrong setting: exit status $status, not restarted:$prevent"
    sed -i 's/^partitions = .*/# partitions = 12/
            s/^contact_points = .*/contact_points = ["127.0.62.99:1"]/' /etc/iotctl/iotctl.toml
    status=0
    start "$unit"
    wait "$service" || status=$?
    [[ $status == 1 && $prevent != *" 1 "* ]] || fail "no Cassandra: exit status $status, not restarted:$prevent"
    echo "a wrong setting ends it for good, servers that are down do not"
}

step "install the package"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
iotctl=/usr/bin/iotctl
"$iotctl" --version
ls -l "$iotctl" "$package"

step "files"
for file in /usr/share/man/man1/iotctl.1.gz /usr/share/man/man1/iotctl-ingest.1.gz \
    /usr/share/bash-completion/completions/iotctl /usr/share/zsh/vendor-completions/_iotctl \
    /usr/share/fish/vendor_completions.d/iotctl.fish /etc/iotctl/iotctl.toml \
    /usr/lib/systemd/system/iotctl-ingest.service /usr/lib/systemd/system/iotctl-bridge.service \
    /usr/lib/systemd/system/iotctl-monitor.service; do
    [[ -s $file ]] || { echo "missing: $file" >&2; exit 1; }
done
bash -n /usr/share/bash-completion/completions/iotctl
systemd-analyze verify /usr/lib/systemd/system/iotctl-*.service
# Every setting of the file is commented out: it is the defaults.
cmp <(env -i HOME="$work" "$iotctl" --config /etc/iotctl/iotctl.toml config show --format json) \
    <(cd / && env -i HOME="$work" "$built" config show --format json)

step "the package's service, as its user"
serve /usr/lib/systemd/system/iotctl-ingest.service packaged

step "remove the package"
remove_package
[[ ! -e /usr/bin/iotctl && ! -e /etc/iotctl/iotctl.toml ]] || fail "the package left files behind"

step "the documented steps"
# The shell blocks of the section, without what needs a running systemd.
awk '/^## /{is_section = /^## Services/} is_section && /^```sh$/{is_block = 1; next} /^```$/{is_block = 0} is_section && is_block' \
    "$root/docs/operations.md" | grep -v '^systemctl' >"$work/steps.sh"
grep -q 'iotctl config init' "$work/steps.sh" || fail "docs/operations.md has no steps"
cat "$work/steps.sh"
checkout=$work/checkout
mkdir -p "$checkout"
cp -r "$root/packaging" "$checkout/"
cp "$built" "$checkout/iotctl"
(cd "$checkout" && env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -eu "$work/steps.sh")
iotctl=/usr/local/bin/iotctl
[[ $(stat -c %a /etc/iotctl/cassandra.password) == 600 ]] || fail "anyone may read the password"
systemd-analyze verify /etc/systemd/system/iotctl-{ingest,monitor}.service

step "the documented service, as its user"
serve /etc/systemd/system/iotctl-ingest.service documented
remove_steps
echo "2 passed, 0 failed"
