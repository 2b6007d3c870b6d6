//! Batches go to Cassandra, each behind the dirty markers of its hours, and are retried by a policy. The pipeline and
//! the direct import share it.

use std::sync::Arc;
use std::time::Instant;

use prometheus::IntCounter;
use tracing::warn;

use super::dirty_marker::{DirtyMarker, LONG_ATTEMPT};
use crate::cassandra::{Error, SealedBatch, Session};
use crate::retry::{Attempts, RetryPolicy};
use crate::store::writes::WriteStatements;

/// Stores batches.
#[derive(Clone)]
pub(super) struct Storage {
    pub session: Session,
    pub statements: WriteStatements,
    pub policy: RetryPolicy,
    /// Counts the attempts that failed.
    pub retries: IntCounter,
}

impl Storage {
    /// Writes a batch until it is stored or the policy gives up. Each attempt has the markers before it.
    pub(super) async fn write(&self, batch: &SealedBatch, markers: &[Arc<DirtyMarker>]) -> Result<(), Error> {
        let mut attempts = self.policy.attempts();
        loop {
            self.write_missing(markers).await?;
            let started = Instant::now();
            match self.session.write(batch).await {
                Ok(()) => {
                    self.policy.note_success();
                    if started.elapsed() <= LONG_ATTEMPT {
                        return Ok(());
                    }
                    // The rows may have become visible only now, when the markers were acted upon long ago.
                    for marker in markers {
                        marker.expire().await;
                    }
                    return self.write_missing(markers).await;
                }
                Err(error) => self.wait(&mut attempts, "store a batch", error).await?,
            }
        }
    }

    /// Writes the markers that are missing.
    async fn write_missing(&self, markers: &[Arc<DirtyMarker>]) -> Result<(), Error> {
        for marker in markers {
            let Some(missing) = marker.missing().await else { continue };
            let batch = missing.seal(&self.statements, self.session.write_consistency());
            let mut attempts = self.policy.attempts();
            while let Err(error) = self.session.write(&batch).await {
                self.wait(&mut attempts, "write a dirty marker", error).await?;
            }
            missing.written();
        }
        Ok(())
    }

    /// Waits before the next attempt to do `what`; fails when the policy gives up.
    async fn wait(&self, attempts: &mut Attempts<'_>, what: &str, error: Error) -> Result<(), Error> {
        self.retries.inc();
        let Some(delay) = attempts.failed(error.is_transient()) else { return Err(error) };
        warn!(%error, "cannot {what}, retrying");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
