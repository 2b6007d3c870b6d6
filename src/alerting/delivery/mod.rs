//! `alerts deliver`: the topic of alerts to the people and systems that asked for them.
//!
//! - [`receivers`]: who is told what, and the file that says so. [`channel`]: the ways to them.
//! - [`dispatcher`]: the topic, read as a consumer group. [`known`]: what was there before, so that copies are left out.
//!   [`held`]: what a silence holds back. [`tracker`]: which offsets may be committed.
//! - [`worker`]: one per receiver; groups, limits, sends and retries. [`notification`]: what is sent at once.
//! - [`dead_letters`]: what a receiver refused. [`metrics`]: what is counted.
//!
//! # Guarantees
//! An offset is committed only after every receiver that wants the alert has accepted it, or it is in the dead-letter topic of
//! alerts. A receiver that does not answer, or with an error of its own, is asked again without end unless `give_up_after` is
//! set; what comes meanwhile waits in the topic. Alerts of one rule and sensor reach a receiver in their order, and a copy of
//! an alert is left out. A notification may come twice: when its answer was lost or came too late, and when the process was
//! killed in the second before a commit. Both have the alerts' `id`s.

mod channel;
mod dead_letters;
mod dispatcher;
mod held;
mod known;
mod metrics;
mod notification;
mod receivers;
mod tracker;
mod worker;

pub use dispatcher::{Ending, Options, run, run_patiently};
pub use metrics::DeliveryMetrics;
pub use receivers::Receivers;
