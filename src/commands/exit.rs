//! What a command's result means for the process: the one place where exit codes are chosen.

use std::process::ExitCode;

use crate::error::{
    EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OPERATOR, EXIT_USAGE, Interrupted, OutputClosed, UsageError,
};
use crate::{cassandra, ingestion, kafka};

/// The exit code for a command's result, after its one-line message has gone to stderr.
pub fn code(result: &anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) if error.is::<UsageError>() || is_bad_setting(error) => ExitCode::from(EXIT_USAGE),
        Err(error) if error.is::<Interrupted>() => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) if needs_operator(error) => ExitCode::from(EXIT_OPERATOR),
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

/// A setting whose value only its user can judge: a file that is no certificate, a property that librdkafka refuses.
fn is_bad_setting(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(cassandra::Error::Setting(_)))
        || matches!(error.downcast_ref(), Some(kafka::Error::File(_) | kafka::Error::Setting { .. }))
}

/// A run that stopped on purpose: the next one would stop at the same messages.
fn needs_operator(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(ingestion::Failure::needs_decision)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn exit_codes_survive_added_context() {
        let of = |error: anyhow::Error| code(&Err::<(), _>(error).context("while doing a thing"));
        assert_eq!(of(UsageError::new("bad").into()), ExitCode::from(EXIT_USAGE));
        assert_eq!(of(Interrupted.into()), ExitCode::from(EXIT_INTERRUPTED));
        assert_eq!(of(OutputClosed.into()), ExitCode::SUCCESS);
        assert_eq!(of(anyhow::anyhow!("other")), ExitCode::from(EXIT_FAILED));
    }
}
