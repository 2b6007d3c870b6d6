"""That each way to receivers carries severity, labels and runbook of the alerts: contents.py WORK ALERTMANAGER.

WORK has mail/, hook/ and command/ with what came, and alerts.ndjson of `iotctl alerts`.
"""
import email, email.policy, json, pathlib, re, sys, urllib.request

work, alertmanager = pathlib.Path(sys.argv[1]), sys.argv[2]
RUNBOOK, LABELS = "https://wiki.example/warm?step=1&of=2", {"team": "cooling", "site": "Nord & Süd"}
known = {alert["id"]: alert for alert in map(json.loads, open(work / "alerts.ndjson"))}
assert known

with urllib.request.urlopen(f"http://{alertmanager}/api/v2/alerts?active=true") as answer:
    active = json.load(answer)
assert active
for alert in active:
    labels, annotations = alert["labels"], alert["annotations"]
    assert {name: labels[name] for name in LABELS} == LABELS and labels["severity"] == "critical", labels
    assert annotations["runbook_url"] == RUNBOOK and annotations["summary"], annotations
    assert known[annotations["id"]]["location"] == labels["location"], annotations

mails = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in (work / "mail").glob("*.mail")]
for mail in mails:
    # Without it, programs show "°C" and "Süd" as other characters.
    assert mail.get_content_charset() == "utf-8" and mail["MIME-Version"] == "1.0", mail.items()
    lines = mail.get_content().splitlines()
    alerts = [index for index, line in enumerate(lines) if re.match(r"(firing|resolved) +\d{4}-", line)]
    assert alerts, lines
    for index in alerts:
        assert lines[index].endswith(", critical)"), lines[index]
        assert lines[index + 1].strip() == "site=Nord & Süd, team=cooling", lines[index + 1]
        assert lines[index + 2].strip() == RUNBOOK, lines[index + 2]
assert mails


def received(folder):
    """What came whole. `deliver` was killed once: what it was sending then may be cut off, and comes again."""
    whole, cut = [], 0
    for path in (work / folder).glob("*.json"):
        try:
            whole.append(json.loads(path.read_bytes()))
        except ValueError:
            cut += 1
    assert cut <= 1, f"{cut} cut off in {folder}"
    return whole


# The template's body: one object per notification with what a chat shows.
posts = received("hook")
assert posts
for post in posts:
    assert post["severity"] == ["critical"] and post["runbook"] == RUNBOOK and post["team"] == "cooling", post
    assert post["title"].startswith(("firing: warm", "resolved: warm")) or " firing, " in post["title"], post

# A program gets the whole notification.
runs = received("command")
assert runs
seen = set()
for run in runs:
    assert run["receiver"] == "pager" and set(run["group"]) == {"severity"} and run["group"]["severity"] == "critical", run["group"]
    for alert in run["alerts"]:
        assert alert["labels"] == LABELS and alert["runbook"] == RUNBOOK and alert["severity"] == "critical", alert
        seen.add(alert["id"])
missing = set(known) - seen
assert not missing, f"{len(missing)} of {len(known)} alerts have not come to the program"
# A receiver of other labels gets nothing.
assert not list((work / "other").glob("*")), "a receiver got alerts with other labels"
print(f"{len(active)} at Alertmanager, {len(mails)} mails, {len(posts)} posts, {len(runs)} runs of the program: severity, labels and runbook")
