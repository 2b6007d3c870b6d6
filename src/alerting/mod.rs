//! Alerts while readings arrive: an operator's rules, applied to each reading, and the topic that receives the alerts.
//!
//! - [`rules`]: the conditions, and the file they are read from. [`tables`]: files of named tables, for receivers too.
//! - [`detector`]: the rules applied to readings. [`window`]: what a rule remembers of a sensor's values. [`verdict`]: the
//!   judgement of one value. [`episode`]: from the first value that meets a condition to the one that ends it.
//!   [`state`]: what is remembered of a sensor, as bytes. [`memory`]: the sensors in memory, within a bound. [`peers`]: the other sensors of a group. [`silence`]: sensors that
//!   have stopped sending, judged by the clock.
//! - [`alert`]: the message. [`acknowledgement`]: who has seen it. [`mute`]: silences that people ask for. [`topic`]: its producer and reader. [`current`]: what fires now.
//! - [`delivery`]: from the topic to receivers: Alertmanager, webhooks, mail and commands.
//!
//! # Guarantees
//! A rule fires once per episode, at the reading that completes its condition, and resolves once. The id of an alert is
//! derived from its rule, sensor, time and state, so an alert that is sent twice has the same id. State belongs to a partition
//! of the topic and can be serialised ([`state`]), so that the next process, or the partition's next owner, goes on from it.
//!
//! Readings that are not newer than the sensor's newest reading are not judged.

pub mod acknowledgement;
pub mod alert;
pub mod current;
pub mod delivery;
mod detector;
mod episode;
mod memory;
pub mod mute;
mod peers;
pub mod rules;
mod silence;
mod state;
mod tables;
pub mod topic;
mod verdict;
mod window;

pub use acknowledgement::Acknowledgement;
pub use alert::Alert;
pub use detector::Detector;
pub use mute::{Matchers, Mute, Mutes};
pub use rules::Rules;
pub use silence::KnownSensor;
pub use state::{RawState, Sealer, StateError};
pub use tables::TablesError;
