//! A broken rule: which settings are at fault, and what to do about it.

/// A broken rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", keys.join(", "))]
pub struct Violation {
    /// The settings at fault, at least one.
    pub keys: Vec<String>,
    /// What is wrong, and the remedy.
    pub problem: String,
}

pub(super) type Checked = Result<(), Violation>;

/// Fails with `problem` at `keys` unless the rule `holds`.
pub(super) fn ensure(holds: bool, keys: &[&str], problem: impl FnOnce() -> String) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Violation { keys: keys.iter().map(|key| (*key).to_owned()).collect(), problem: problem() })
}
