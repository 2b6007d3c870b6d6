//! The progress of an audit, for whoever shows it.

use std::sync::Arc;

/// The steps of an audit, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Rows,
    DeadLetters,
    Messages,
    Ledger,
    Comparing,
}

/// The progress of a phase. The total is 0 if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    pub done: u64,
    pub total: u64,
}

/// Called with the progress at intervals, from any thread.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;
