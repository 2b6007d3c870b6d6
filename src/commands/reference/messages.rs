//! messages.md: the wire format of readings, dead letters and alerts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

use super::{GENERATED, table};
use crate::alerting::alert::State;
use crate::alerting::rules::Severity;
use crate::alerting::{Acknowledgement, Alert, Matchers, Mute};
use crate::config::Config;
use crate::kafka::dead_letters::HEADERS;
use crate::reading::decode::{EARLIEST, MAX_NAME_BYTES, MAX_OTHER_METRICS, MAX_STATE_BYTES};
use crate::reading::{DecodeLimits, LEGACY_MISSING, Metric, Rejection, decode};
use crate::time;

const EXAMPLE: &str = r#"{"location": "plant-1", "device_type": "thermostat", "iot_sensor_id": "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0",
 "recorded_timestamp": "2026-11-01T12:00:00Z", "temperature": 21.5, "mode": "eco", "other_metrics": {"rpm": 1480}}"#;

pub(super) fn page() -> anyhow::Result<String> {
    let defaults = Config::default();
    let (readings, kafka) = (&defaults.ingest, &defaults.kafka);
    let limits = crate::commands::support::decode_limits(readings);
    let now = DateTime::parse_from_rfc3339("2026-11-01T12:00:00Z")?.timestamp_millis();
    anyhow::ensure!(
        decode::decode(EXAMPLE.as_bytes(), &limits, now).is_ok(),
        "the example cannot be decoded"
    );
    let mut page = format!(
        "# Messages\n\n{GENERATED}\n\n## Readings\n\nTopic: `kafka.topic` (`{}`). A message is one JSON object. Its key is the \
         sensor's id, so that one sensor's readings stay in order.\n\n```json\n{EXAMPLE}\n```\n\n",
        kafka.topic
    );
    page.push_str(&table(&["field", "type", "required", "meaning"], fields()));
    let _ = write!(
        page,
        "\nFields may come in any order. {}\n\n### Values\n\nOne rule holds for all fields but the four required ones, at the \
         top level and in `other_metrics`:\n\n",
        missing()
    );
    page.push_str(&table(&["value", "becomes"], values()));
    page.push_str("\n### Limits\n\n");
    page.push_str(&table(&["limit", "value"], limit_rows(&limits)));
    page.push_str(
        "\n### Refused messages\n\nA message that can never be stored goes to the dead-letter topic with one of these reasons:\n\n",
    );
    page.push_str(&table(
        &["reason", "example of its error"],
        Rejection::examples()
            .into_iter()
            .map(|rejection| vec![format!("`{}`", rejection.reason()), rejection.to_string()]),
    ));
    let _ = write!(
        page,
        "\n## Dead letters\n\nTopic: `kafka.dead_letter_topic` (`{}`). Key and payload are those of the refused message. \
         `iotctl dead-letters` lists and replays them. Headers:\n\n",
        kafka.dead_letter_topic()
    );
    page.push_str(&table(
        &["header", "meaning"],
        HEADERS.iter().map(|(name, meaning)| vec![format!("`{name}`"), (*meaning).to_owned()]),
    ));
    let _ = write!(
        page,
        "\n## Alerts\n\nTopic: `kafka.alerts_topic` (`{}`). `iotctl ingest --detect` writes one message when a rule begins to \
         hold for a sensor and one when it ends. Both have the same `since`. A copy of an alert has the same `id`.\n\n\
         ```json\n{}\n```\n\nAn alert that a receiver of `iotctl alerts deliver` refused is copied to the topic `{}`, with the \
         headers `receiver`, `reason` (`refused`, or `expired` after `give_up_after`) and `error`.\n\n",
        kafka.alerts_topic(),
        serde_json::to_string_pretty(&alert())?,
        kafka.alerts_dead_letter_topic()
    );
    let _ = write!(
        page,
        "### Acknowledgements\n\n`iotctl alerts ack` writes one to the same topic, with the key of the alert. It is about the \
         episode of this rule, sensor and `since`.\n\n```json\n{}\n```\n\n### Silences\n\n`iotctl alerts silence` writes one to \
         the same topic; its key is its `id`. An alert is held back from `starts` until `ends` if all `matchers` match; those are \
         `rule`, `iot_sensor_id`, `location`, `device_type` and `labels`. A sensor that was not \
         registered has its name as `sensor_name`, too: alerts with either match. Of several messages with one `id`, the one with the newest \
         `noted_timestamp` counts: `--expire` writes one that ends now.\n\n```json\n{}\n```\n",
        serde_json::to_string_pretty(&acknowledgement())?,
        serde_json::to_string_pretty(&silence())?
    );
    Ok(page)
}

fn fields() -> Vec<Vec<String>> {
    let row = |name: &str, kind: &str, required: &str, meaning: &str| {
        vec![format!("`{name}`"), kind.to_owned(), required.to_owned(), meaning.to_owned()]
    };
    let mut rows = vec![
        row("location", "text", "yes", "Where the sensor is; with `device_type` the sensor's group"),
        row("device_type", "text", "yes", "What kind of device it is"),
        row("iot_sensor_id", "UUID", "yes", "The sensor"),
        row(
            "sensor_name",
            "text",
            "no",
            "What people call the sensor; kept in the registry and not with the reading",
        ),
        row(
            "sensor_tags",
            "object of text",
            "no",
            "What its messages say about the sensor; kept in the registry",
        ),
        row(
            "recorded_timestamp",
            "RFC 3339 with an offset or `Z`, or milliseconds since 1970",
            "yes",
            "When the reading was taken, by the sensor's clock",
        ),
    ];
    rows.extend(Metric::COLUMNS.iter().map(|metric| {
        let meaning = metric.unit().map_or_else(String::new, |unit| format!("In {unit}"));
        row(metric.name(), "number", "no", &format!("{meaning}, as a 32-bit float"))
    }));
    rows.push(row("motion_detected", "boolean", "no", "Whether motion was detected"));
    rows.push(row("other_metrics", "object", "no", "Further metrics and states by name"));
    rows.push(row(
        "measured_metrics",
        "object",
        "no",
        &format!("The same as `other_metrics`, but {LEGACY_MISSING:.1} is a number in it"),
    ));
    rows.push(row("states", "object of text", "no", "Text that is a state even if it looks like a number"));
    let any = ["any other name", "number, boolean or text", "no", "The same as a name in `other_metrics`"];
    rows.push(any.map(str::to_owned).to_vec());
    rows
}

fn values() -> Vec<Vec<String>> {
    let text = format!("other text of up to {MAX_STATE_BYTES} bytes");
    [
        ("number", "the column of that name, else a 64-bit other metric; whole numbers are exact up to 2^53"),
        (
            "text that is a JSON number",
            "that number; a whole number beyond 2^53 stays text, because it is an id",
        ),
        (
            "`true`, `false`",
            "`motion_detected`, else an other metric of 1 or 0; left out if the column has a unit",
        ),
        ("`0`, `1`, `\"true\"`, `\"false\"` for `motion_detected`", "a boolean"),
        (text.as_str(), "a state under the field's name"),
        ("`null`, blank text", "nothing: not measured"),
        (
            "array, object, longer text",
            "left out, and counted by name in `iotctl_ingest_ignored_fields_total`",
        ),
    ]
    .map(|(value, becomes)| vec![value.to_owned(), becomes.to_owned()])
    .to_vec()
}

fn missing() -> String {
    format!(
        "A value that was not measured is left out, `null`, or {LEGACY_MISSING:.1} (older producers); all three store nothing. A reading \
         without any value is not stored either: `ingest` skips it and counts it in `iotctl_ingest_empty_readings_total`."
    )
}

fn limit_rows(limits: &DecodeLimits) -> Vec<Vec<String>> {
    [
        (
            "size of a message (`ingest.max_message_bytes`)",
            format!("{} bytes by default", limits.max_message_bytes),
        ),
        ("length of a name", format!("1 to {MAX_NAME_BYTES} bytes, no control characters")),
        ("other metrics in a reading, and states", format!("{MAX_OTHER_METRICS} each")),
        ("earliest `recorded_timestamp`", time::display(EARLIEST)),
        (
            "latest `recorded_timestamp` (`ingest.max_future_skew`)",
            format!(
                "{} after the clock of `ingest` by default",
                humantime::format_duration(limits.max_future_skew)
            ),
        ),
    ]
    .map(|(limit, value)| vec![limit.to_owned(), value])
    .to_vec()
}

fn alert() -> Alert {
    let at = |millis| DateTime::from_timestamp_millis(millis).unwrap_or_default();
    Alert {
        id: Uuid::from_u128(0x9f0c_71f5_32d4_5a1b_8a5e_60c1_fb1a_2d3e),
        rule: "hot".to_owned(),
        severity: Severity::Critical,
        state: State::Firing,
        location: "plant-1".to_owned(),
        device_type: "thermostat".to_owned(),
        iot_sensor_id: Uuid::from_u128(0x6f1d_2c3b_4a59_4687_8796_a5b4_c3d2_e1f0),
        sensor_name: Some("th-1".to_owned()),
        metric: "temperature".to_owned(),
        value: 31.5,
        expected: Some(28.0),
        score: None,
        recorded_timestamp: at(1_793_534_400_000),
        since: at(1_793_534_100_000),
        detected_timestamp: at(1_793_534_400_250),
        message: "temperature 31.5 °C: above 28".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "cooling".to_owned())]),
        runbook: Some("https://wiki.example/hot".to_owned()),
    }
}

/// Moments are those of the example, not of now.
fn acknowledgement() -> Acknowledgement {
    let (alert, comment) = (alert(), Some("on my way".to_owned()));
    let mut acknowledgement = Acknowledgement::of(&alert, "ada".to_owned(), comment);
    acknowledgement.acknowledged_timestamp = alert.recorded_timestamp + TimeDelta::minutes(2);
    acknowledgement
}

fn silence() -> Mute {
    let starts = alert().recorded_timestamp;
    let labels = alert().labels;
    let matchers = Matchers { location: Some("plant-1".to_owned()), labels, ..Matchers::default() };
    let during = (starts, starts + TimeDelta::hours(2));
    let mut mute = Mute::new(matchers, during, "ada".to_owned(), Some("new pump".to_owned()));
    mute.id = Uuid::from_u128(0x2c7f_0a4e_93d1_4b6a_8f5c_1d2e_3f40_5162);
    mute.noted_timestamp = starts;
    mute
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_of_a_refusal_is_listed_once() {
        let listed: Vec<_> = Rejection::examples().iter().map(Rejection::reason).collect();
        assert_eq!(listed, Rejection::REASONS);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    }

    #[test]
    fn the_page_names_every_field_with_its_unit() {
        let page = page().unwrap();
        for metric in Metric::COLUMNS {
            let unit = metric.unit().unwrap();
            let row = format!("| `{}` | number | no | In {unit}, as a 32-bit float |", metric.name());
            assert!(page.contains(&row), "no {row:?}");
        }
        assert!(page.contains("-999.0") && page.contains("\"state\": \"firing\""), "{page}");
    }
}
