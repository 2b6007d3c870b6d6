//! Kinds of failure and their exit codes. Typed errors live beside the code that returns them; a chain of
//! context (`anyhow`) carries them up, and `commands::exit` alone turns them into a process's exit code.

pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
/// The command stopped on purpose and would stop again: an operator has to decide something first.
pub const EXIT_OPERATOR: u8 = 3;
pub const EXIT_INTERRUPTED: u8 = 130;

/// A request that can never work: an unknown metric, an inverted range, a bad setting. The message names the mistake
/// and the remedy. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The user stopped the command before it finished. Exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The reader of the output closed it (`iotctl query … | head`). Not a failure, and not reported. Exit code 0.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output is gone")]
pub struct OutputClosed;
