// The lists beside the chart: anomalies, alerts, extremes, silent sensors.

import { mayAcknowledge, send } from "./account.js";
import { ask } from "./api.js";
import { $, FULL, SHORT, buttons, count, el, empty, length, measured, plural, remark, say, sensorRow, table, time, titledOfAll } from "./page.js";
import { age, figure, span } from "./scale.js";
import { show, zoomTo } from "./sensor.js";
import { RANGES, emit, on, range, state } from "./state.js";

const cell = (text, kind = "n") => el("td", { class: kind, text });

/* ---- anomalies of the chosen sensor ---- */

on("anomalies", (answer, metric) => {
  const many = answer.found > answer.anomalies.length ? `, the ${answer.anomalies.length} most unusual` : "";
  say($("anomalies-note"), `${plural(answer.found, "anomaly", "anomalies")} in ${plural(answer.values, "value")}, far from the sensor's median${many}`);
  const rows = [...answer.anomalies].sort((a, b) => Math.abs(b.score ?? 0) - Math.abs(a.score ?? 0)).slice(0, 6).map((anomaly) => {
    const zoom = () => {
      const room = Math.max(RANGES[state.last] / 60, time(anomaly.to) - time(anomaly.from));
      zoomTo(time(anomaly.from) - room, time(anomaly.to) + room);
    };
    const button = el("button", { type: "button", class: "link named", text: FULL.format(time(anomaly.worst)), title: "Zoom in" });
    return el("tr", { class: "row", onclick: zoom }, el("td", {}, button), cell(measured(anomaly.value, metric)), cell(figure(anomaly.expected)), cell(anomaly.score === undefined ? "–" : figure(anomaly.score)));
  });
  const headings = [["worst at"], ["value", "n"], ["expected", "n"], ["robust deviations", "n"]];
  $("anomalies").replaceChildren(rows.length ? table("Anomalies", headings, rows) : remark("None in this range of time."));
});

/* ---- alerts ---- */

const SHOWN = 8;

export async function loadAlerts() {
  try {
    const answer = await ask("alerts", "/api/alerts");
    if (answer) takeAlerts(answer);
  } catch (error) {
    showTile("?", "not known", "warn");
    say($("alerts-note"), error.message, "warn");
  }
}

const showTile = (text, note, kind) => {
  say($("tile-alerts"), text, kind);
  say($("tile-alerts-note"), note);
};

/** Who has seen an alert, or how to say so. */
function seen(alert) {
  const { acknowledged } = alert;
  if (acknowledged) {
    const said = acknowledged.comment ? `: ${acknowledged.comment}` : "";
    return el("td", { class: "message", text: `${acknowledged.by}, ${SHORT.format(time(acknowledged.at))}${said}`, title: FULL.format(time(acknowledged.at)) });
  }
  if (alert.state !== "firing" || !mayAcknowledge()) return el("td", { text: "–" });
  const act = (event) => {
    event.stopPropagation();
    acknowledge(alert, event.currentTarget);
  };
  return el("td", {}, el("button", { type: "button", class: "acknowledge", text: "Acknowledge", "aria-label": `Acknowledge ${alert.rule} of ${alert.sensor_name ?? alert.iot_sensor_id}`, onclick: act }));
}

async function acknowledge(alert, button) {
  button.disabled = true;
  try {
    await send("POST", `/api/alerts/${alert.id}/acknowledgement`);
    await loadAlerts();
    // The button is gone: the focus stays at its row.
    document.querySelector(`#alerts tr[data-alert="${alert.id}"] button`)?.focus();
  } catch (error) {
    say($("alerts-note"), error.message, "warn");
    button.disabled = false;
  }
}

// The role decides whether there are buttons.
on("me", () => state.alerts && takeAlerts(state.alerts));

export function takeAlerts(answer) {
  if (answer.status) {
    showTile("?", "not known", "warn");
    return say($("alerts-note"), answer.remedy ? `${answer.detail} (${answer.remedy})` : answer.detail, "warn");
  }
  state.alerts = answer;
  const critical = answer.firing.filter((alert) => alert.severity === "critical").length;
  const firing = answer.firing_count;
  const isNone = !firing && !answer.alerts.length;
  showTile(count(firing), firing ? `firing, ${count(critical)} critical` : "none fires", critical ? "bad" : firing ? "warn" : isNone ? undefined : "good");
  const hasSeen = mayAcknowledge() || answer.firing.some((alert) => alert.acknowledged);
  // The registry's name, where the list has it, before that of the message.
  const names = new Map([...state.readings.values()].map((reading) => [reading.iot_sensor_id, reading.sensor_name]));
  const row = (alert) => {
    const node = listed(alert);
    node.setAttribute("data-alert", alert.id);
    return node;
  };
  const listed = (alert) => sensorRow(
    { ...alert, sensor_name: names.get(alert.iot_sensor_id) ?? alert.sensor_name },
    () => showAlert(alert),
    el("td", {}, el("span", { class: `badge ${alert.state === "firing" ? alert.severity : "over"}`, text: alert.state === "firing" ? alert.severity : "resolved" })),
    cell(alert.rule, ""),
    cell(SHORT.format(time(alert.since))),
    cell(alert.state === "firing" ? age(time(alert.since)) : span(time(alert.recorded_timestamp) - time(alert.since))),
    cell(alert.message, "message"),
    ...(hasSeen ? [seen(alert)] : []),
  );
  // An episode that is over is one row: that of its end.
  const past = answer.alerts.filter((alert) => alert.state === "resolved");
  const list = [...answer.firing].reverse().slice(0, SHOWN);
  const rows = [...list, ...past.slice(0, Math.max(0, SHOWN - list.length))].map(row);
  const more = firing > SHOWN ? `; the ${SHOWN} latest` : "";
  say($("alerts-note"), isNone ? "" : `${plural(firing, "alert")} firing${more}${firing < SHOWN && past.length ? ", and those before" : ""}`);
  const none = "No alert has been sent. iotctl ingest --detect RULES.toml writes them.";
  $("alerts").replaceChildren(rows.length ? table("Alerts", [["sensor"], ["state"], ["rule"], ["since", "n"], ["for", "n"], ["reading"], ...(hasSeen ? [["acknowledged"]] : [])], rows) : empty(none));
  return emit("alerts");
}

function showAlert(alert) {
  if (state.units.has(alert.metric) && state.metric !== alert.metric) {
    state.metric = alert.metric;
    emit("metric");
  }
  show(alert.iot_sensor_id);
}

/* ---- extremes ---- */

export async function loadExtremes() {
  if (!state.metric || !state.fleet) return;
  const moments = state.fleet.groups.map((group) => time(group.recorded_timestamp ?? "")).filter(Number.isFinite);
  try {
    const span = range(Math.max(...moments));
    const { metric, side, last } = state;
    const answer = await ask("extremes", "/api/extremes", { metric, side, top: 8, ...span });
    if (!answer) return;
    const rows = answer.extremes.map((extreme) =>
      sensorRow(extreme, () => show(extreme.iot_sensor_id), cell(figure(extreme.value)), cell(extreme.location, "wrap"), cell(SHORT.format(time(extreme.recorded_timestamp)))),
    );
    say($("extremes-note"), `${side === "highest" ? "Highest" : "Lowest"} ${titledOfAll(metric)} of each of ${plural(answer.sensors, "sensor")}, ${last}`);
    $("extremes").replaceChildren(rows.length ? table("Extremes", [["sensor"], ["value", "n"], ["location"], ["at", "n"]], rows) : remark("No values in this range of time."));
  } catch (error) {
    say($("extremes-note"), error.message, "warn");
    $("extremes").replaceChildren();
  }
}

/* ---- silent sensors ---- */

export async function loadSilent() {
  try {
    const answer = await ask("silent", "/api/silent", { top: 8 });
    if (!answer) return;
    const after = length(state.fleet?.silent_after_seconds ?? 3600);
    say($("silent-note"), `${count(answer.silent)} of ${plural(answer.sensors, "sensor")}, no reading for longer than ${after}`);
    const rows = answer.list.map((sensor) =>
      sensorRow(sensor, () => show(sensor.iot_sensor_id), cell(age(time(sensor.recorded_timestamp)), "n is-bad"), cell(sensor.location, "wrap"), cell(sensor.device_type, "wrap")),
    );
    const more = answer.silent > rows.length ? [el("p", { class: "more", text: `and ${count(answer.silent - rows.length)} more` })] : [];
    const none = answer.sensors ? remark("No sensor is silent.", "good") : remark("No sensor has sent a reading yet.");
    $("silent").replaceChildren(rows.length ? table("Silent sensors", [["sensor"], ["silent for", "n"], ["location"], ["type"]], rows) : none, ...more);
  } catch (error) {
    say($("silent-note"), error.message, "warn");
    $("silent").replaceChildren();
  }
}

export function begin() {
  buttons($("sides"), ["highest", "lowest"], () => state.side, (name) => {
    state.side = name;
    loadExtremes();
  });
}
