//! Checks of the whole platform, each with a verdict, the finding and a remedy.
//!
//! The checks start from [`Status`] and ask for the rest. A check that cannot run, such as one of an unreachable server,
//! is `skipped` with the reason; that is not a success.

use serde::Serialize;

use crate::observe::status::{Servers, Status};

mod cassandra;
mod clocks;
mod encryption;
mod growth;
mod kafka;
mod machine;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Skipped,
    Warning,
    Failed,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `machine`, `cassandra`, `kafka`.
    pub group: &'static str,
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// `None` where there is nothing to do.
    pub remedy: Option<String>,
}

/// The outcome of a check that has no name yet.
type Finding = (Verdict, String, Option<String>);

fn ok(found: impl Into<String>) -> Finding {
    (Verdict::Ok, found.into(), None)
}

fn skipped(why: impl Into<String>) -> Finding {
    (Verdict::Skipped, why.into(), None)
}

fn warning(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    (Verdict::Warning, found.into(), Some(remedy.into()))
}

fn failed(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    (Verdict::Failed, found.into(), Some(remedy.into()))
}

/// Takes the remedy from the parentheses at the end of the error.
fn failed_by(error: impl std::fmt::Display) -> Finding {
    let text = error.to_string();
    match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((found, remedy)) => failed(found, remedy),
        None => failed(text, "see `iotctl status` and the server's log"),
    }
}

impl Check {
    fn new(group: &'static str, name: &'static str, (verdict, found, remedy): Finding) -> Self {
        Self { group, name, verdict, found, remedy }
    }
}

/// Runs every check.
pub async fn examine(servers: &mut Servers) -> (Status, Vec<Check>) {
    let config = servers.config.clone();
    // First, because the checks use the session that it opens, and are skipped where no server answers.
    let status = servers.look().await;
    let session = match status.cassandra.known() {
        Some(_) => servers.session().await.ok(),
        None => None,
    };
    let (machine, cassandra, kafka) = tokio::join!(
        machine::checks(&config, &status),
        cassandra::checks(&config, &status, session),
        kafka::checks(&config, &status),
    );
    (status, [machine, cassandra, kafka].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_own_remedy_is_taken_as_the_remedy() {
        let finding = failed_by("no broker answers at a:1 within 5s (start one with `iotctl up`, or set it)");
        assert_eq!(finding.1, "no broker answers at a:1 within 5s");
        assert_eq!(finding.2.unwrap(), "start one with `iotctl up`, or set it");
        assert_eq!(failed_by("it broke").1, "it broke");
    }
}
