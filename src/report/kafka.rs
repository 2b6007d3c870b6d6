//! Alerts and dead letters of a range of time, from their topics.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use super::MOST_ROWS;
use crate::alerting::Alert;
use crate::alerting::alert::State;
use crate::alerting::current::Current;
use crate::alerting::topic::AlertFeed;
use crate::analytics::groups::Selection;
use crate::config::KafkaConfig;
use crate::kafka::Subscription;
use crate::kafka::dead_letters::LetterBox;
use crate::reading::Group;
use crate::shutdown::Shutdown;
use crate::time::TimeRange;

/// Rules and reasons that are counted: whoever may write to a topic could make any number of them.
const MAX_NAMES: usize = 1_000;

/// The alerts of a range of time.
#[derive(Debug, Default)]
pub struct AlertFigures {
    /// How many began, by rule.
    pub by_rule: BTreeMap<String, u64>,
    /// What fires at its end, in the order in which it began.
    pub firing: Vec<Alert>,
}

/// The dead letters of a range of time, by reason: how many, and how many of them were replayed.
#[derive(Debug, Default)]
pub struct LetterFigures {
    pub by_reason: BTreeMap<String, (u64, u64)>,
}

/// Reads the topic of alerts. What fires at the end of the range is known from all of the topic.
pub(super) async fn alerts(
    config: &KafkaConfig,
    selection: &Selection,
    range: TimeRange,
    shutdown: &Shutdown,
) -> anyhow::Result<AlertFigures> {
    let mut feed = AlertFeed::open(config).await?;
    let batch = feed.next().await?;
    let (selection, shutdown) = (selection.clone(), shutdown.clone());
    let read = move || {
        let (mut figures, mut current, mut seen) =
            (AlertFigures::default(), Current::default(), HashSet::new());
        batch.each::<()>(&|| shutdown.is_requested(), |alert| {
            let group = Group { location: alert.location.clone(), device_type: alert.device_type.clone() };
            let at = alert.recorded_timestamp.timestamp_millis();
            if !selection.matches(&group) || at >= range.to || !seen.insert(alert.id) {
                return ControlFlow::Continue(());
            }
            let counts = &mut figures.by_rule;
            let has_room = counts.len() < MAX_NAMES || counts.contains_key(&alert.rule);
            if alert.state == State::Firing && range.contains(at) && has_room {
                *counts.entry(alert.rule.clone()).or_default() += 1;
            }
            current.add(alert);
            ControlFlow::Continue(())
        })?;
        figures.firing = current.firing().into_iter().cloned().collect();
        anyhow::Ok(figures)
    };
    tokio::task::spawn_blocking(read).await?
}

/// Reads the dead-letter topic. A letter is not of a location: it could not be read.
pub(super) async fn letters(
    config: &KafkaConfig,
    subscription: Subscription,
    range: TimeRange,
    shutdown: &Shutdown,
) -> anyhow::Result<LetterFigures> {
    let letters = LetterBox::open(config, subscription).await?;
    let shutdown = shutdown.clone();
    let read = move || {
        let mut figures = LetterFigures::default();
        letters.each::<()>(&|| shutdown.is_requested(), |letter, standing| {
            let counts = &mut figures.by_reason;
            let has_room = counts.len() < MAX_NAMES || counts.contains_key(&letter.reason);
            if !standing.is_copy && range.contains(letter.timestamp) && has_room {
                let (letters, replayed) = counts.entry(letter.reason).or_default();
                *letters += 1;
                *replayed += u64::from(standing.is_replayed);
            }
            ControlFlow::Continue(())
        })?;
        anyhow::Ok(figures)
    };
    tokio::task::spawn_blocking(read).await?
}

impl AlertFigures {
    /// The first ones that fire, and how many more there are.
    pub(super) fn first(&self) -> (&[Alert], usize) {
        let shown = self.firing.len().min(MOST_ROWS);
        (&self.firing[..shown], self.firing.len() - shown)
    }
}
