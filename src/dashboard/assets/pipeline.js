// Kafka and Cassandra, and what needs attention.

import { $, SECOND, count, el, plural, say, table, time } from "./page.js";
import { age, figure } from "./scale.js";

let attention = [];

/** Shows what needs attention, and `trouble` of the page itself. */
export function showAttention(trouble) {
  const all = [...new Set([...(trouble ? [trouble] : []), ...attention])];
  $("attention").hidden = all.length === 0;
  const list = $("attention").querySelector("ul");
  const texts = [...list.children].map((item) => item.textContent);
  // Only replaced when it changes: screen readers read it aloud.
  if (texts.join("\n") !== all.join("\n")) list.replaceChildren(...all.map((text) => el("li", { text })));
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (number >= 1024 && power < units.length - 1) {
    number /= 1024;
    power += 1;
  }
  return `${figure(number)} ${units[power]}`;
}

const facts = (list) => el("dl", {}, ...list.flatMap(([name, text, kind]) => [el("dt", { text: name }), el("dd", { text, class: kind && `is-${kind}` })]));

export function takeStatus(status) {
  attention = status.attention;
  takeKafka(status.kafka);
  takeCassandra(status.cassandra);
  say($("pipeline-note"), `seen at ${SECOND.format(time(status.at))}`);
}

function takeKafka(kafka) {
  if (kafka.unknown) {
    say($("tile-lag"), "?", "bad");
    say($("tile-lag-note"), "Kafka does not answer");
    return $("kafka").replaceChildren(facts([["Kafka", kafka.unknown, "bad"]]));
  }
  const { group, topic } = kafka;
  const lag = group.lag_messages;
  const isOld = (group.lag_seconds ?? 0) > 60;
  say($("tile-lag"), lag === null ? "?" : count(lag), isOld ? "warn" : undefined);
  say($("tile-lag-note"), group.members === 0 ? "no ingest is running" : lag ? `oldest for ${age(Date.now() - (group.lag_seconds ?? 0) * 1000)}` : "everything is stored");
  return $("kafka").replaceChildren(
    facts([
      ["Brokers", kafka.brokers.map((broker) => broker.address).join(", ")],
      ["Topic", `${topic.name}, ${plural(topic.partitions, "partition")}`],
      ["Kept", plural(topic.messages, "message")],
      ["Waiting", lag === null ? "not known" : plural(lag, "message"), isOld ? "warn" : undefined],
      ["Ingest", group.members === null ? "not known" : group.members ? `${plural(group.members, "process", "processes")} in group ${group.name}` : "none is running", group.members === 0 ? "warn" : undefined],
      ["Dead letters", plural(kafka.dead_letters.messages, "message")],
    ]),
  );
}

function takeCassandra(cassandra) {
  if (cassandra.unknown) {
    say($("tile-nodes"), "?", "bad");
    say($("tile-nodes-note"), "does not answer");
    return $("cassandra").replaceChildren(facts([["Cassandra", cassandra.unknown, "bad"]]));
  }
  const well = cassandra.nodes.filter((node) => node.answers && (node.state ?? "normal") === "normal").length;
  say($("tile-nodes"), `${well} of ${cassandra.nodes.length}`, well < cassandra.nodes.length ? "bad" : "good");
  say($("tile-nodes-note"), "nodes answer");
  const rows = cassandra.nodes.map((node) =>
    el("tr", {}, el("td", { text: node.address }), el("td", { text: node.answers ? (node.state ?? "answers") : "no answer", class: node.answers ? "is-good" : "is-bad" }), el("td", { class: "n", text: node.load_bytes ? bytes(node.load_bytes) : "–" }), el("td", { text: node.version ?? "–" })),
  );
  return $("cassandra").replaceChildren(table("Cassandra nodes", [["node"], ["state"], ["load", "n"], ["version"]], rows));
}
