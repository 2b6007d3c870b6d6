//! What a run sends, how fast, until when, and where to.

use std::path::PathBuf;
use std::time::Duration;

use super::disorder::Disorder;
use super::fleet::FleetPlan;
use super::pace::Pace;
use super::recording::RecordingPlan;
use crate::config::KafkaConfig;
use crate::output::Output;

/// What to send.
#[derive(Debug, Clone)]
pub enum Feed {
    Fleet(FleetPlan),
    Recording(RecordingPlan),
}

/// When to stop: at whichever comes first. A recording also stops at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    pub count: Option<u64>,
    pub duration: Option<Duration>,
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub feed: Feed,
    pub disorder: Disorder,
    /// Seeds the disorder.
    pub seed: u64,
    pub pace: Pace,
    pub limit: Limit,
    /// Where to append what the broker has acknowledged.
    pub ledger: Option<PathBuf>,
}

impl Plan {
    /// Whether the run ends by itself.
    pub fn is_bounded(&self) -> bool {
        self.limit.count.is_some() || self.limit.duration.is_some() || matches!(self.feed, Feed::Recording(_))
    }

    /// Maximum number of messages: with a rate, a duration is a number of messages too.
    pub(super) fn total(&self) -> u64 {
        let by_time = match (self.pace, self.limit.duration) {
            (Pace::Rate(rate), Some(duration)) => (rate * duration.as_secs_f64()).round() as u64,
            _ => u64::MAX,
        };
        self.limit.count.unwrap_or(u64::MAX).min(by_time)
    }
}

/// Where messages go.
#[derive(Debug, Clone)]
pub enum Target {
    /// The topic of the configuration.
    Kafka(Box<KafkaConfig>),
    /// One line per message.
    Stdout(Output),
}
