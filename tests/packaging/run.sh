#!/usr/bin/env bash
# The Debian package on this machine, as docs/operations.md says: it is installed, its files are checked, its `ingest`
# service is started with the user and the modes that systemd's DynamicUser gives it, stores readings, and is removed again.
# Needs root, dpkg, setpriv, and a built iotctl for the servers (cargo build).
# Usage: tests/packaging/run.sh PACKAGE.deb
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=$(realpath "${1:?usage: tests/packaging/run.sh PACKAGE.deb}")
[[ $(id -u) == 0 ]] || { echo "installing a package needs root" >&2; exit 1; }
if dpkg-query -W -f '${Status}' iotctl 2>/dev/null | grep -q installed; then
    echo "iotctl is installed here already: this script would remove it" >&2
    exit 1
fi
. "$here/../servers.sh"
servers 127.0.62.1 18600
built=$iotctl

remove() { DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq iotctl >/dev/null 2>&1 || true; }
trap 'status=$?; remove; (exit $status); end_all' EXIT

step() { printf '== %s\n' "$*"; }

step "install"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
iotctl=/usr/bin/iotctl
"$iotctl" --version
ls -l "$iotctl" "$package"

step "files"
for file in /usr/share/man/man1/iotctl.1.gz /usr/share/man/man1/iotctl-ingest.1.gz \
    /usr/share/bash-completion/completions/iotctl /usr/share/zsh/vendor-completions/_iotctl \
    /usr/share/fish/vendor_completions.d/iotctl.fish /etc/iotctl/iotctl.toml \
    /usr/lib/systemd/system/iotctl-ingest.service /usr/lib/systemd/system/iotctl-monitor.service; do
    [[ -s $file ]] || { echo "missing: $file" >&2; exit 1; }
done
bash -n /usr/share/bash-completion/completions/iotctl
systemd-analyze verify /usr/lib/systemd/system/iotctl-*.service
# Every setting of the file is commented out: it is the defaults.
cmp <("$iotctl" --config /etc/iotctl/iotctl.toml config show --format json) <(cd / && "$built" config show --format json)

step "configure and start, as the service's user"
sed -i "s/^# *contact_points = .*/contact_points = [\"$IOTCTL_CASSANDRA_CONTACT_POINTS\"]/
        s/^# *bootstrap_servers = .*/bootstrap_servers = [\"$IOTCTL_KAFKA_BOOTSTRAP_SERVERS\"]/" /etc/iotctl/iotctl.toml
grep -n '^contact_points\|^bootstrap_servers' /etc/iotctl/iotctl.toml
service_environment() { env -i PATH=/usr/bin:/bin "$@"; }
service_environment "$iotctl" --config /etc/iotctl/iotctl.toml -q schema apply >/dev/null
service_environment "$iotctl" --config /etc/iotctl/iotctl.toml -q simulate --count 5000 --rate 0 >/dev/null
# What the unit runs, with a user that owns nothing, no groups, no new privileges, its umask, and / as the folder.
start=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/iotctl-ingest.service)
umask_of_unit=$(sed -n 's/^UMask=//p' /usr/lib/systemd/system/iotctl-ingest.service)
(
    cd / && umask "$umask_of_unit"
    exec env -i PATH=/usr/local/bin:/usr/bin:/bin setpriv --reuid=61184 --regid=61184 --clear-groups --no-new-privs \
        bash -c "exec $start"
) >"$work/service.log" 2>&1 &
service=$!
pids+=("$service")
stored() { curl -fsS http://127.0.0.1:9464/metrics 2>/dev/null | sed -n 's/^iotctl_ingest_rows_total //p'; }
for _ in $(seq 120); do
    [[ $(stored || true) == 5000 ]] && break
    kill -0 "$service" 2>/dev/null || { cat "$work/service.log" >&2; exit 1; }
    sleep 0.5
done
[[ $(stored) == 5000 ]] || { echo "the service stored $(stored) of 5000 rows" >&2; cat "$work/service.log" >&2; exit 1; }
curl -fsS http://127.0.0.1:9464/readyz >/dev/null
kill -TERM "$service"
wait "$service" || { echo "the service ended with $?" >&2; cat "$work/service.log" >&2; exit 1; }
echo "the service stored 5000 rows and ended with 0"

step "remove"
remove
[[ ! -e /usr/bin/iotctl && ! -e /etc/iotctl/iotctl.toml ]] || { echo "the package left files behind" >&2; exit 1; }
echo "1 passed, 0 failed"
