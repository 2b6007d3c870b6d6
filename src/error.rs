//! What a failure is and which exit code it gets. Typed errors live beside the code that returns them; a chain of
//! context (`anyhow`) carries them here, and [`exit_code`] alone turns them into a process's answer.

use std::process::ExitCode;

pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
pub const EXIT_INTERRUPTED: u8 = 130;

/// The command was asked for something that can never work: an unknown metric, an inverted range, a bad setting.
/// The message names what is wrong and the remedy. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The user stopped the command before it could finish its work. Exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The reader of our output went away (`iotctl query … | head`): no failure, nothing to say. Exit code 0.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output is gone")]
pub struct OutputClosed;

/// The exit code for a command's result, after its one-line message has gone to stderr.
pub fn exit_code(result: &anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) if error.is::<UsageError>() || is_bad_setting(error) => ExitCode::from(EXIT_USAGE),
        Err(error) if error.is::<Interrupted>() => ExitCode::from(EXIT_INTERRUPTED),
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

/// A setting whose value only its user can judge: a file that is no certificate, a property that librdkafka refuses.
fn is_bad_setting(error: &anyhow::Error) -> bool {
    use crate::{cassandra, kafka};
    matches!(error.downcast_ref(), Some(cassandra::Error::Setting(_)))
        || matches!(error.downcast_ref(), Some(kafka::Error::File(_) | kafka::Error::Setting { .. }))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn exit_codes_survive_added_context() {
        let code = |error: anyhow::Error| exit_code(&Err::<(), _>(error).context("while doing a thing"));
        assert_eq!(code(UsageError::new("bad").into()), ExitCode::from(EXIT_USAGE));
        assert_eq!(code(Interrupted.into()), ExitCode::from(EXIT_INTERRUPTED));
        assert_eq!(code(OutputClosed.into()), ExitCode::SUCCESS);
        assert_eq!(code(anyhow::anyhow!("other")), ExitCode::from(EXIT_FAILED));
    }
}
