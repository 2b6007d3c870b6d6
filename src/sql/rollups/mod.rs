//! Aggregates over `readings` that are answered from rollups, without the statement naming them.
//!
//! - [`question`]: what of an aggregate can be answered so, and as which question of [`crate::analytics::stats`].
//! - [`keys`]: expressions of time that it may be grouped by. [`calls`]: functions that rollups have the answer of.
//! - [`joined`]: aggregates over a join with a table about sensors.
//! - [`rule`]: the rule of the optimiser that replaces an aggregate. [`provider`]: the table that it is replaced with: it
//!   plans the sources, and keeps the aggregate where there are no rollups. [`answer`]: the operator.

use datafusion::common::extensions_options;
use datafusion::config::ConfigExtension;

mod answer;
mod calls;
mod joined;
mod keys;
mod provider;
mod question;
mod rule;

pub(super) use provider::Summaries;
pub(super) use rule::FromRollups;

extensions_options! {
    /// Settings of a session that are ours.
    pub(super) struct Settings {
        /// Whether aggregates may be answered from rollups.
        pub(super) rollups: bool, default = true
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "iotctl";
}
