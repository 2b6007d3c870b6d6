//! Labelled windows of time to score detectors against, from people or from the simulator.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use uuid::Uuid;

use crate::audit::ledger::{LedgerReader, Line};
use crate::reading::Metric;
use crate::time::{self, TimeRange};

/// A labelled window, both ends included; of one sensor, or of every sensor that is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    pub sensor: Option<Uuid>,
    pub from: i64,
    pub to: i64,
}

/// Maximum size of a file of labels, in bytes. A ledger may be larger: only its injected extremes are kept.
const MAX_BYTES: u64 = 16 << 20;
const MAX_LABELS: usize = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("cannot read the labels: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error(
        "no labels: expected windows such as [[\"2026-01-31 12:00\", \"2026-01-31 13:00\"]], several such lists by name, or \
         a ledger of `iotctl simulate --ledger`: {0}"
    )]
    NoLabels(String),
    #[error("more than {MAX_LABELS} labels (score a shorter range of time)")]
    TooMany,
}

/// Windows in JSON: a list, or lists by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Windows {
    List(Vec<(String, String)>),
    Named(std::collections::BTreeMap<String, Vec<(String, String)>>),
}

/// Reads a file of windows (JSON; moments without a zone are UTC), or the extremes of `metric` that a ledger names.
/// Only windows that overlap `range`.
pub fn read(path: &Path, metric: &Metric, range: TimeRange) -> Result<Vec<Label>, LabelError> {
    let mut labels = match fs::metadata(path)?.len() {
        0..=MAX_BYTES => {
            let text = fs::read_to_string(path)?;
            match serde_json::from_str(&text) {
                Ok(windows) => of_windows(windows)?,
                Err(_) if text.starts_with("{\"sensor\"") => of_ledger(path, metric)?,
                Err(error) => return Err(LabelError::NoLabels(error.to_string())),
            }
        }
        _ => of_ledger(path, metric)?,
    };
    labels.retain(|label| label.from < range.to && range.from <= label.to);
    Ok(labels)
}

fn of_windows(windows: Windows) -> Result<Vec<Label>, LabelError> {
    let windows = match windows {
        Windows::List(windows) => windows,
        Windows::Named(lists) => lists.into_values().flatten().collect(),
    };
    let moment = |text: &str| {
        time::recorded(text).ok_or_else(|| LabelError::NoLabels(format!("{text:?} is not a time")))
    };
    windows
        .iter()
        .map(|(from, to)| Ok(Label { sensor: None, from: moment(from)?, to: moment(to)? }))
        .collect()
}

fn of_ledger(path: &Path, metric: &Metric) -> Result<Vec<Label>, LabelError> {
    let mut ledger = LedgerReader::open(path)?;
    let mut labels = Vec::new();
    while let Some((line, _)) = ledger.next_line()? {
        let Line::Entry(entry) = line else { continue };
        if entry.extreme.as_deref() == Some(metric.name()) {
            let at = entry.timestamp.timestamp_millis();
            labels.push(Label { sensor: Some(entry.sensor), from: at, to: at });
        }
        if labels.len() > MAX_LABELS {
            return Err(LabelError::TooMany);
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Label>, LabelError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path(), &Metric::Temperature, TimeRange { from: 0, to: 100_000_000 })
    }

    #[test]
    fn windows_are_read_as_a_list_and_by_name() {
        let window = r#"["1970-01-01 01:00:00.000000", "1970-01-01 02:00"]"#;
        let expected = [Label { sensor: None, from: 3_600_000, to: 7_200_000 }];
        assert_eq!(of(&format!("[{window}]")).unwrap(), expected);
        assert_eq!(of(&format!(r#"{{"machine.csv": [{window}]}}"#)).unwrap(), expected);
        assert_eq!(of(r#"[["2026-01-31", "2026-02-01"]]"#).unwrap(), [], "outside of the range");
    }

    #[test]
    fn a_ledger_gives_the_extremes_of_the_metric() {
        let line = |extreme: &str| {
            format!(
                r#"{{"sensor":"00000000-0000-0000-0000-000000000007","timestamp":"1970-01-01T00:00:05Z","partition":0,"offset":1{extreme}}}"#
            ) + "\n"
        };
        let text =
            line(r#","extreme":"temperature","value":99.5"#) + &line("") + &line(r#","extreme":"humidity""#);
        let label = Label { sensor: Some(Uuid::from_u128(7)), from: 5_000, to: 5_000 };
        assert_eq!(of(&text).unwrap(), [label]);
    }

    #[test]
    fn what_is_neither_says_what_would_be() {
        for text in ["", "hello", "[[1,2]]", r#"[["soon","later"]]"#] {
            assert!(of(text).unwrap_err().to_string().contains("--ledger"), "{text}");
        }
    }
}
