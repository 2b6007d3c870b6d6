//! Every panel and every rule has data on a real Prometheus that scrapes the real servers.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::bench::{GROUP, MONITOR, NODES, TOPIC, ok};
use crate::files::{dashboards, panels};
use crate::support::{complain, eventually};
use crate::{bench, prometheus};

crate::trials!(
    what_up_started_scrapes_everything,
    the_exporter_has_the_names_of_existing_dashboards,
    every_panel_has_data,
    every_choice_of_a_dashboard_has_data,
    every_rule_has_something_to_look_at,
    the_latencies_of_the_virtual_tables_are_in_seconds,
);

const PATIENCE: Duration = Duration::from_secs(120);

fn what_up_started_scrapes_everything() -> anyhow::Result<()> {
    let mut targets = Vec::new();
    let all_up = eventually("every target of `up --monitoring` is up", PATIENCE, || {
        targets = bench().shipped.targets()?;
        Ok(targets.len() == 7 && targets.iter().all(|(_, _, health)| health == "up"))
    });
    ensure!(all_up.is_ok(), "{all_up:?}: {targets:?}");
    let mut jobs: Vec<_> = targets.iter().map(|(job, _, _)| job.as_str()).collect();
    jobs.sort_unstable();
    ensure!(
        jobs == ["cassandra", "cassandra", "ingest", "kafka", "monitor", "node", "prometheus"],
        "{jobs:?}"
    );
    for (job, instance, _) in &targets {
        ensure!(instance.starts_with("127."), "{job} at {instance}");
    }
    Ok(())
}

fn the_exporter_has_the_names_of_existing_dashboards() -> anyhow::Result<()> {
    let text = prometheus::get(MONITOR.parse()?, "/metrics")?;
    let lines = [
        format!("kafka_consumergroup_lag{{consumergroup=\"{GROUP}\",topic=\"{TOPIC}\",partition=\"0\"}} "),
        format!(
            "kafka_consumergroup_lag_seconds{{consumergroup=\"{GROUP}\",topic=\"{TOPIC}\",partition=\"0\"}} "
        ),
        format!("kafka_topic_partition_current_offset{{topic=\"{TOPIC}\",partition=\"0\"}} "),
        format!("kafka_topic_partition_oldest_offset{{topic=\"{TOPIC}\",partition=\"0\"}} 0"),
        format!("kafka_topic_partition_under_replicated_partition{{topic=\"{TOPIC}\",partition=\"0\"}} 0"),
        "kafka_brokers 1".to_owned(),
        format!("iotctl_cassandra_node_up{{node=\"{}\"}} 1", NODES[0]),
        format!("iotctl_cassandra_node_up{{node=\"{}\"}} 1", NODES[1]),
        format!("iotctl_cassandra_peer_up{{node=\"{}\",peer=\"127.0.48.2\"}} 1", NODES[0]),
    ];
    for start in lines {
        ensure!(text.lines().any(|line| line.starts_with(&start)), "{start} is not in\n{text}");
    }
    Ok(())
}

/// As Grafana fills it in, with everything chosen.
fn filled_in(expression: &str, dashboard: &Value) -> String {
    let mut text = expression.replace("$__rate_interval", "20s");
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        text = text.replace(&format!("${}", variable["name"].as_str().unwrap_or_default()), ".*");
    }
    text
}

/// Asks until each expression has data; those that have none in the end are the failure.
fn all_have_data(mut asked: Vec<(String, String)>) -> anyhow::Result<()> {
    let (count, started) = (asked.len(), Instant::now());
    loop {
        let mut empty = Vec::new();
        for (name, expression) in asked {
            match bench().quick.query(&expression) {
                Ok(samples) if !samples.is_empty() => {}
                Ok(_) => empty.push((name, expression)),
                Err(error) => anyhow::bail!("{name}: {expression}: {error}"),
            }
        }
        if empty.is_empty() {
            complain(&format!("  {count} expressions, none empty"));
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            let list: Vec<_> = empty.iter().map(|(name, text)| format!("  {name}: {text}")).collect();
            anyhow::bail!("{} of {count} are empty:\n{}", empty.len(), list.join("\n"));
        }
        asked = empty;
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn every_panel_has_data() -> anyhow::Result<()> {
    // So that there are reads too.
    ok(&["-q", "sensors", "--format", "json"])?;
    let mut asked = Vec::new();
    for (name, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap_or_default();
                let title = panel["title"].as_str().unwrap_or_default();
                asked.push((format!("{name}: {title}"), filled_in(expression, &dashboard)));
            }
        }
    }
    all_have_data(asked)
}

/// `label_values(selector, label)`: the selector has series, and they have the label.
fn every_choice_of_a_dashboard_has_data() -> anyhow::Result<()> {
    for (name, dashboard) in dashboards()? {
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            let definition = variable["definition"].as_str().unwrap_or_default();
            let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap_or_default();
            let samples = bench().quick.query(selector)?;
            let found = samples.iter().any(|sample| sample["metric"][label].is_string());
            ensure!(found, "{name}: {definition} is empty");
        }
    }
    Ok(())
}

/// A recording rule has a result. An alert that does not fire has none; what it looks at must be there.
fn every_rule_has_something_to_look_at() -> anyhow::Result<()> {
    let mut asked = Vec::new();
    for rule in bench().quick.rules()? {
        let (name, expression) =
            (rule["name"].as_str().unwrap_or_default(), rule["query"].as_str().unwrap_or_default());
        if rule["type"] == "recording" {
            asked.push((name.to_owned(), expression.to_owned()));
            continue;
        }
        let selectors = selectors(expression);
        ensure!(!selectors.is_empty(), "{name} looks at nothing: {expression}");
        asked.extend(selectors.into_iter().map(|selector| (name.to_owned(), selector)));
    }
    ensure!(asked.len() > 30, "{} expressions", asked.len());
    all_have_data(asked)?;
    for rule in bench().quick.rules()? {
        ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
    Ok(())
}

/// The vector selectors of an expression, `metric{labels}`.
fn selectors(expression: &str) -> Vec<String> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(start) = rest.find(|char: char| is_name(char) || char == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        let next = after.trim_start();
        if matches!(name, "by" | "on" | "without" | "ignoring") && next.starts_with('(') {
            rest = next.split_once(')').map_or("", |(_, after)| after);
        } else if name.starts_with(|char: char| char.is_ascii_digit())
            || matches!(name, "and" | "or" | "unless" | "bool" | "offset")
            // A function, or an aggregation before or after its grouping.
            || next.starts_with('(') || next.starts_with("by")
        {
            continue;
        } else if let Some(labels) = next.strip_prefix('{') {
            let (labels, after) = labels.split_once('}').unwrap_or_default();
            // By the label's values alone, whatever they are now: `up{job="x"}` without the job is anything.
            found.push(format!("{name}{{{labels}}}"));
            rest = after;
        } else {
            found.push(name.to_owned());
        }
    }
    found
}

/// Cassandra names the columns milliseconds. Compared with JMX, whose unit is known: the slowest request of all is no
/// quicker than 99 of 100, and not a thousand times slower.
fn the_latencies_of_the_virtual_tables_are_in_seconds() -> anyhow::Result<()> {
    let value = |query: &str| -> anyhow::Result<f64> {
        let samples = bench().quick.query(query)?;
        let text = samples.first().and_then(|sample| sample["value"][1].as_str()).unwrap_or_default();
        Ok(text.parse()?)
    };
    let slowest = value(
        "max(iotctl_cassandra_request_latency_seconds{operation=\"coordinator_write\", quantile=\"1\"})",
    )?;
    let usual =
        value("max(cassandra_client_request_latency_seconds{operation=\"Write\", quantile=\"0.99\"})")?;
    complain(&format!("  slowest write {slowest} s by system_views, p99 {usual} s by JMX"));
    ensure!(slowest + 0.001 >= usual * 0.3 && slowest <= usual * 300.0, "{slowest} s and {usual} s");
    Ok(())
}
