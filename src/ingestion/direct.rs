//! Readings stored without Kafka, for imports: the same batcher, budget, catalog and storage as the pipeline's. Rows
//! are stored before the records that readers find them by.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use prometheus::IntCounter;

use super::batcher::{Batcher, FullBatch, Records};
use super::budget::Budget;
use super::storage::Storage;
use crate::cassandra::{Error, Session};
use crate::config::Config;
use crate::reading::Reading;
use crate::retry::RetryPolicy;
use crate::store::writes::WriteStatements;

/// Batches that are written at once.
const CONCURRENCY: usize = 32;
/// How long transient errors are retried.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// Stores readings batch by batch.
pub struct DirectWriter {
    storage: Storage,
    batcher: Batcher<()>,
    budget: Budget,
    full: Vec<FullBatch<()>>,
}

impl DirectWriter {
    pub async fn new(session: Session, config: &Config) -> Result<Self, Error> {
        let statements = WriteStatements::prepare(&session, &config.retention).await?;
        let consistency = session.write_consistency();
        let retries = IntCounter::new("retries", "Attempts that failed").expect("a valid name");
        Ok(Self {
            batcher: Batcher::new(config, statements.clone(), consistency),
            budget: Budget::new(&config.ingest),
            storage: Storage {
                session,
                statements,
                policy: RetryPolicy::WRITES.at_most(RETRY_LIMIT),
                retries,
            },
            full: Vec::new(),
        })
    }

    /// Takes a reading into its partition's batch.
    pub fn push(&mut self, reading: &Reading<'_>) {
        let (bytes, full) = self.batcher.push(reading, ());
        self.budget.add_bytes(bytes);
        self.full.extend(full);
    }

    /// Whether so much waits in memory that it should be flushed.
    pub fn is_full(&self) -> bool {
        self.budget.is_full() || self.batcher.is_full()
    }

    /// Stores everything that was pushed, and then its records.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let mut batches = std::mem::take(&mut self.full);
        batches.extend(self.batcher.take_all());
        let storage = &self.storage;
        self.budget.begin_write();
        let stored: usize = batches.iter().map(|batch| batch.bytes).sum();
        stream::iter(batches)
            .map(async |batch| storage.write(&batch.rows, &batch.markers).await)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        self.budget.end_write(stored);
        let Records { batches, markers } = self.batcher.take_records();
        let markers = &markers;
        stream::iter(batches)
            .map(async |record| storage.write(&record, markers).await)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        if self.batcher.should_forget() {
            self.batcher.forget();
        }
        Ok(())
    }
}
