//! What needs no server: promtool's own checks, and dashboards that say what they show.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::bench;

crate::trials!(
    promtool_accepts_the_configuration_and_the_rules,
    promtools_unit_tests_of_the_alerts_pass,
    each_alert_has_a_summary_a_remedy_and_a_line_in_the_docs,
    each_panel_has_a_title_a_description_and_a_unit,
);

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

pub fn dashboards() -> anyhow::Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(monitoring().join("grafana/dashboards"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        found.push((name.clone(), serde_json::from_str(&text).with_context(|| name)?));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    ensure!(found.len() == 4, "{} dashboards", found.len());
    Ok(found)
}

/// The panels of a dashboard that show something.
pub fn panels(dashboard: &Value) -> Vec<Value> {
    let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

fn promtool(arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new("promtool").args(arguments).current_dir(monitoring().join("prometheus")).output()?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(output.status.success(), "promtool {}: {}", arguments.join(" "), String::from_utf8_lossy(&said));
    Ok(())
}

fn promtool_accepts_the_configuration_and_the_rules() -> anyhow::Result<()> {
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["check", "rules", "recording.rules.yml", "alerts.rules.yml"])
}

fn promtools_unit_tests_of_the_alerts_pass() -> anyhow::Result<()> {
    promtool(&["test", "rules", "tests/alerts.test.yml"])
}

fn each_alert_has_a_summary_a_remedy_and_a_line_in_the_docs() -> anyhow::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let docs = std::fs::read_to_string(docs)?;
    let mut count = 0;
    for rule in bench().quick.rules()?.iter().filter(|rule| rule["type"] == "alerting") {
        let name = rule["name"].as_str().unwrap_or_default();
        for annotation in ["summary", "remedy"] {
            ensure!(rule["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
        ensure!(rule["labels"]["severity"].is_string(), "{name} has no severity");
        ensure!(docs.contains(&format!("`{name}`")), "{name} is not in docs/monitoring.md");
        count += 1;
    }
    ensure!(count > 20, "{count} alerts");
    Ok(())
}

fn each_panel_has_a_title_a_description_and_a_unit() -> anyhow::Result<()> {
    for (name, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            let said = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            ensure!(said(&panel["title"]) && said(&panel["description"]), "{name}: {title} says too little");
            ensure!(said(&panel["fieldConfig"]["defaults"]["unit"]), "{name}: {title} has no unit");
            ensure!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{name}: {title}"
            );
        }
        ensure!(dashboard["uid"].is_string(), "{name} has no uid, so that links to it would break");
    }
    Ok(())
}
