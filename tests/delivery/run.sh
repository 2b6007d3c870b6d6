#!/usr/bin/env bash
# `alerts deliver` to a real Prometheus Alertmanager and a real SMTP server, both of which fail and restart meanwhile, to a webhook and to
# a program: what fires, and its severity, labels and runbook. Needs a built
# iotctl (cargo build), Java 17, curl, prometheus-alertmanager (Debian's package) and, in `python`,
# pip install -r tests/delivery/requirements.txt
# Usage: tests/delivery/run.sh      (PYTHON=… or an active virtual environment; IOTCTL=… for another binary)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../servers.sh"
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/}python}
"$python" -c 'import aiosmtpd'
address=127.0.65.1
fail() { echo "$*" >&2; tail -n 5 "$work"/*.log >&2; exit 1; }

start_alertmanager() {
    printf 'route: {receiver: nobody}\nreceivers: [{name: nobody}]\n' >"$work/alertmanager.yml"
    prometheus-alertmanager --config.file="$work/alertmanager.yml" --storage.path="$work/alertmanager" \
        --web.listen-address=$address:19093 --cluster.listen-address= >>"$work/alertmanager.log" 2>&1 &
    alertmanager=$!
    pids+=("$alertmanager")
}
mkdir "$work"/{mail,hook,command,other}
"$python" "$here/mailbox.py" $address 10025 "$work/mail" >"$work/mailbox.log" 2>&1 &
pids+=("$!")
"$python" "$here/hook.py" $address 10080 "$work/hook" >"$work/hook.log" 2>&1 &
pids+=("$!")
start_alertmanager
servers $address 18600
export IOTCTL_KAFKA_PARTITIONS=4
"$iotctl" -q schema apply >/dev/null

# "name location" of what fires, by iotctl and by Alertmanager.
fires() { "$iotctl" -q alerts --firing --format ndjson | "$python" -c '
import json, sys
for line in sys.stdin: alert = json.loads(line); print(alert["rule"], alert["location"], alert["iot_sensor_id"])' | sort; }
active() { curl -sf "http://$address:19093/api/v2/alerts?active=true" | "$python" -c '
import json, sys
for alert in json.load(sys.stdin): labels = alert["labels"]; print(labels["alertname"], labels["location"], labels["iot_sensor_id"])' | sort; }
until_equal() { # what
    for _ in $(seq 150); do
        fires >"$work/fires"
        active >"$work/active" 2>/dev/null || true
        cmp -s "$work/fires" "$work/active" && [[ -s $work/fires ]] && return
        sleep 0.2
    done
    diff "$work/fires" "$work/active" | head >&2
    fail "$1: Alertmanager and iotctl do not agree on what fires"
}

cat >"$work/rules.toml" <<'TOML'
[[rule]]
name = "warm"
severity = "critical"
metric = "temperature"
labels = { team = "cooling", site = "Nord & Süd" }
runbook = "https://wiki.example/warm?step=1&of=2"
threshold = { above = 21.0, hysteresis = 0.2 }
TOML
cat >"$work/receivers.toml" <<TOML
[[receiver]]
name = "prometheus"
alertmanager = { url = "http://$address:19093", resend = "2s" }
[[receiver]]
name = "mail"
group_by = ["location"]
group_wait = "1s"
max_per_minute = 0
email = { server = "$address:10025", encryption = "none", from = "iotctl@example.org", to = ["ops@example.org", "shift@example.org"] }
[[receiver]]
name = "chat"
severity = "critical"
labels = { team = "cooling" }
group_wait = "1s"
max_per_minute = 0
webhook = { url = "http://$address:10080/hook", body = '{title, severity: (.alerts | map(.severity) | unique), team: .alerts[0].labels.team, runbook: .alerts[0].runbook}' }
[[receiver]]
name = "pager"
group_by = ["severity"]
group_wait = "1s"
max_per_minute = 0
command = { run = ["/bin/sh", "-c", 'cat > "\$0/\$\$.json"', "$work/command"] }
[[receiver]]
name = "others"
labels = { team = "heating" }
command = { run = ["/bin/sh", "-c", 'cat > "\$0/\$\$.json"', "$work/other"] }
TOML
"$iotctl" -q alerts deliver "$work/receivers.toml" --until-end >/dev/null
detect() {
    "$iotctl" -q simulate --sensors 60 --count 12000 --rate 0 --seed "$1" >/dev/null
    "$iotctl" -q ingest --until-end --detect "$work/rules.toml" >/dev/null
}
echo "== the mail server answers 451 for a while"
echo "451 later" >"$work/mail/answer"
detect 1
"$iotctl" alerts deliver "$work/receivers.toml" >"$work/deliver.out" 2>"$work/deliver.log" &
deliver=$!
pids+=("$deliver")
until_equal "at first"
for _ in $(seq 100); do [[ $(cat "$work/mail/refused" 2>/dev/null | wc -c) -lt 2 ]] || break; sleep 0.1; done
[[ ! -e $work/mail/1.mail ]] || fail "a refused mail was kept"
rm "$work/mail/answer"
echo "== what fires stays active for longer than four intervals, and after a restart of Alertmanager"
sleep 10
until_equal "after ten seconds"
kill -9 "$alertmanager"
detect 2
start_alertmanager
until_equal "after a restart"
echo "== deliver is killed and goes on"
kill -9 "$deliver"
detect 3
"$iotctl" -O kafka.properties.session.timeout.ms=6000 alerts deliver "$work/receivers.toml" --until-end --format json >"$work/report"
"$python" - "$work" <<'PYTHON' || fail "the mails"
import email, email.policy, glob, json, re, subprocess, sys
work = sys.argv[1]
mails = [email.message_from_bytes(open(path, "rb").read(), policy=email.policy.default) for path in glob.glob(f"{work}/mail/*.mail")]
assert mails and all(mail["Auto-Submitted"] == "auto-generated" and mail["To"] == "ops@example.org, shift@example.org" for mail in mails)
ids = [mail["Message-ID"] for mail in mails]
print(f"{len(mails)} mails, {len(ids) - len(set(ids))} sent again, the first: {mails[0]['Subject']}")
# Each alert is counted in a subject or has its line; mails list the first 50.
listed = sum(int(more) for mail in mails for more in re.findall(r"and (\d+) more", mail.get_content()))
lines = [line for mail in mails for line in mail.get_content().splitlines() if re.match(r"(firing|resolved) +\d{4}-", line)]
print(f"{len(set(lines))} different lines, {listed} not listed")
open(f"{work}/lines", "w").write(str(len(set(lines)) + listed))
PYTHON
[[ $(cat "$work/lines") -ge $("$iotctl" -q alerts --format ndjson | wc -l) ]] || fail "mails: $(cat "$work/lines") of $("$iotctl" -q alerts --format ndjson | wc -l) alerts"
echo "== severity, labels and runbook came along everywhere"
"$iotctl" -q alerts --format ndjson >"$work/alerts.ndjson"
"$python" "$here/contents.py" "$work" $address:19093 || fail "the contents"
echo "== a refused mail is a dead letter"
echo "550 no" >"$work/mail/answer"
detect 4
"$iotctl" -q alerts deliver "$work/receivers.toml" --until-end --format json >"$work/report"
"$python" -c 'import json, sys; report = json.load(open(sys.argv[1])); print(report); assert report["dead_letters"] > 0' "$work/report"
echo "== all delivered"
