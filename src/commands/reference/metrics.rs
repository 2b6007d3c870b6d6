//! metrics.md: what `ingest`, `alerts deliver`, `monitor` and `forecast` export, from their own registries.

use std::fmt::Write as _;

use super::{GENERATED, table};
use crate::alerting::delivery::DeliveryMetrics;
use crate::bridge::BridgeMetrics;
use crate::forecasts::metrics::ForecastMetrics;
use crate::http;
use crate::ingestion::IngestMetrics;
use crate::metrics::describe::{Described, describe};
use crate::metrics::renewal;
use crate::observe::exporter;

pub(super) fn page() -> anyhow::Result<String> {
    let subject = ["location", "device_type", "iot_sensor_id", "metric"].map(|label| (label, ""));
    let sections = [
        (
            "iotctl ingest --metrics-addr",
            "Counted by one process; sum over all members of the consumer group.",
            IngestMetrics::new()?.describe(),
        ),
        (
            "iotctl bridge mqtt --metrics-addr",
            "Counted by one process; sum over all bridges.",
            BridgeMetrics::new()?.describe(),
        ),
        (
            "iotctl alerts deliver --metrics-addr",
            "Counted by one process; sum over all members of the consumer group.",
            DeliveryMetrics::new()?.describe(),
        ),
        (
            "iotctl monitor",
            "Read from Kafka and from every Cassandra node once per interval. A counter is the server's own, and falls to 0 \
             when that server restarts.",
            exporter::definitions().iter().map(exporter::snapshot::Definition::describe).collect(),
        ),
        (
            "iotctl forecast --metrics-addr",
            "The newest forecast of one metric; replaced as a whole when the next one is made.",
            ForecastMetrics::new(&subject)?.describe(),
        ),
        (
            "all of them, and iotctl dashboard",
            "Counted by one process. The dashboard serves these alone at `/metrics`. Logins are counted with http.tokens_file.",
            [describe(&http::metrics()), describe(&renewal::collectors())].concat(),
        ),
    ];
    let mut page = format!(
        "# Metrics\n\n{GENERATED}\n\nEach command serves Prometheus' text format at `/metrics`. \
         [monitoring.md](../monitoring.md) says how to scrape them, and which to alert on.\n"
    );
    for (command, about, metrics) in sections {
        let _ = write!(page, "\n## {command}\n\n{about}\n\n{}", rows(metrics));
    }
    Ok(page)
}

fn rows(metrics: Vec<Described>) -> String {
    let rows = metrics.into_iter().map(|Described { name, kind, help, labels }| {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        vec![format!("`{name}`"), kind.to_owned(), labels.join(", "), help]
    });
    table(&["metric", "type", "labels", "meaning"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_without_a_value_yet_are_listed_with_type_and_labels() {
        let page = page().unwrap();
        for text in [
            "| `iotctl_ingest_rows_total` | counter |  | ",
            "| `iotctl_ingest_dead_letters_total` | counter | `reason` | ",
            "| `iotctl_ingest_write_seconds` | histogram |  | ",
            "| `iotctl_monitor_up` | gauge | `source` | ",
            "| `iotctl_forecast_crossing_seconds` | gauge | ",
            "| `iotctl_credentials_refused` | gauge | `server` | ",
        ] {
            assert!(page.contains(text), "no {text:?} in\n{page}");
        }
    }
}
