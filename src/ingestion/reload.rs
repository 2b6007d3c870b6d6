//! Rules that change while `ingest` runs: their file is looked at every few seconds. A file that is refused changes nothing.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::alerting::Rules;
use crate::ingestion::IngestMetrics;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Passes on the rules whenever the text of their file has changed and is well formed. `known` is what `ingest` began with.
pub(super) async fn watch(path: PathBuf, mut known: Rules, metrics: IngestMetrics, changed: Sender<Rules>) {
    // An error is reported once, and again when it is another one.
    let mut reported = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let file = path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || Rules::read(&file)).await else { return };
        match read {
            Ok(rules) => {
                metrics.rules_refused.set(0);
                if reported.take().is_some() && rules == known {
                    tracing::info!(file = %path.display(), "the rules are as they were");
                }
                if rules == known {
                    continue;
                }
                tracing::info!(file = %path.display(), rules = rules.len(), "the rules have changed");
                metrics.rules_reloads.inc();
                known = rules.clone();
                if changed.send(rules).is_err() {
                    return;
                }
            }
            Err(error) => {
                metrics.rules_refused.set(1);
                let error = error.to_string();
                if reported.as_ref() != Some(&error) {
                    tracing::warn!(file = %path.display(), "the changed rules are refused, the old ones stay: {error}");
                }
                reported = Some(error);
            }
        }
    }
}
