//! Readings stored without Kafka, for imports: the same statements, batches and catalog as the pipeline's. Rows are
//! stored before what readers find them by, as there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::catalog::{Catalog, GroupId};
use crate::cassandra::writes::{self, WriteStatements};
use crate::cassandra::{Batch, Error, SealedBatch, Session, Values};
use crate::config::{IngestConfig, SchemaConfig};
use crate::reading::{Bucket, Reading};

/// Batches that are written at once.
const CONCURRENCY: usize = 32;
/// How long failures that pass by themselves are borne.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stores readings batch by batch.
pub struct DirectWriter {
    session: Session,
    statements: WriteStatements,
    catalog: Catalog,
    open: HashMap<(GroupId, Bucket), Batch>,
    full: Vec<SealedBatch>,
    bound: Values,
    batch_rows: usize,
    batch_bytes: usize,
    bucket: Duration,
    last_timestamp: i64,
}

impl DirectWriter {
    pub async fn new(session: Session, ingest: &IngestConfig, schema: &SchemaConfig) -> Result<Self, Error> {
        Ok(Self {
            statements: WriteStatements::prepare(&session).await?,
            session,
            catalog: Catalog::default(),
            open: HashMap::new(),
            full: Vec::new(),
            bound: Values::new(),
            batch_rows: ingest.batch_rows,
            batch_bytes: usize::try_from(ingest.batch_bytes.as_u64()).unwrap_or(usize::MAX),
            bucket: schema.bucket,
            last_timestamp: 0,
        })
    }

    /// Takes a reading into its partition's batch.
    pub fn push(&mut self, reading: &Reading<'_>) {
        let bucket = Bucket::containing(reading.recorded_at, self.bucket);
        writes::bind_reading(&mut self.bound, reading, bucket);
        let group = self.catalog.group(&reading.location, &reading.device_type);
        self.catalog.note_partition(group, bucket);
        self.catalog.note_reading(group, reading.sensor, reading.recorded_at, &self.bound);
        let batch = self.open.entry((group, bucket)).or_insert_with(|| {
            self.statements.readings_batch(&reading.location, &reading.device_type, bucket)
        });
        batch.push(&self.bound);
        if (batch.rows() >= self.batch_rows || batch.bytes() >= self.batch_bytes)
            && let Some(batch) = self.open.remove(&(group, bucket))
        {
            let sealed = self.seal(batch);
            self.full.push(sealed);
        }
    }

    /// Stores everything that was pushed, and then the catalog.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let open: Vec<_> = self.open.drain().map(|(_, batch)| batch).collect();
        for batch in open {
            let sealed = self.seal(batch);
            self.full.push(sealed);
        }
        let full = std::mem::take(&mut self.full);
        self.write(full).await?;
        let timestamp = self.next_timestamp();
        let consistency = self.session.write_consistency();
        let records = self.catalog.take_batches(&self.statements, consistency, timestamp);
        self.write(records).await?;
        if self.catalog.is_full() {
            self.catalog.forget();
        }
        Ok(())
    }

    fn seal(&mut self, batch: Batch) -> SealedBatch {
        let timestamp = self.next_timestamp();
        batch.seal(self.session.write_consistency(), timestamp)
    }

    fn next_timestamp(&mut self) -> i64 {
        self.last_timestamp = chrono::Utc::now().timestamp_micros().max(self.last_timestamp + 1);
        self.last_timestamp
    }

    async fn write(&self, batches: Vec<SealedBatch>) -> Result<(), Error> {
        stream::iter(batches)
            .map(async |batch| write(&self.session, &batch).await)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }
}

async fn write(session: &Session, batch: &SealedBatch) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match session.write(batch).await {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            result => return result,
        }
    }
}
