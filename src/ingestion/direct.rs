//! Readings stored without Kafka, for imports: the same statements, batches and catalog as the pipeline's. Rows are
//! stored before what readers find them by, as there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::catalog::{Catalog, GroupId};
use crate::cassandra::{Batch, Error, SealedBatch, Session, Values};
use crate::config::Config;
use crate::ingestion::dirty::{HourMark, LONG_ATTEMPT};
use crate::reading::{Bucket, Reading};
use crate::store::writes::{self, WriteStatements};
use crate::time::hour_of;

/// Batches that are written at once.
const CONCURRENCY: usize = 32;
/// How long failures that pass by themselves are borne.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stores readings batch by batch.
pub struct DirectWriter {
    session: Session,
    statements: WriteStatements,
    catalog: Catalog,
    open: HashMap<(GroupId, Bucket), Open>,
    full: Vec<(SealedBatch, Marks)>,
    bound: Values,
    batch_rows: usize,
    batch_bytes: usize,
    bucket: Duration,
    last_timestamp: i64,
}

/// The marks on hours that a batch has rows of: none is sent without them.
type Marks = Vec<Arc<HourMark>>;

/// Rows of one partition, and their hours with their marks.
struct Open {
    batch: Batch,
    hours: Vec<(i64, Arc<HourMark>)>,
}

impl DirectWriter {
    pub async fn new(session: Session, config: &Config) -> Result<Self, Error> {
        let Config { ingest, schema, retention, .. } = config;
        Ok(Self {
            statements: WriteStatements::prepare(&session, retention).await?,
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
        let open = self.open.entry((group, bucket)).or_insert_with(|| Open {
            batch: self.statements.readings_batch(&reading.location, &reading.device_type, bucket),
            hours: Vec::with_capacity(1),
        });
        open.batch.push(&self.bound);
        let hour = hour_of(reading.recorded_at);
        if !open.hours.iter().any(|(known, _)| *known == hour) {
            open.hours.push((hour, self.catalog.hour(group, hour)));
        }
        if (open.batch.rows() >= self.batch_rows || open.batch.bytes() >= self.batch_bytes)
            && let Some(open) = self.open.remove(&(group, bucket))
        {
            let sealed = self.seal(open);
            self.full.push(sealed);
        }
    }

    /// Stores everything that was pushed, and then the catalog.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let open: Vec<_> = self.open.drain().map(|(_, open)| open).collect();
        for open in open {
            let sealed = self.seal(open);
            self.full.push(sealed);
        }
        let full = std::mem::take(&mut self.full);
        self.write(full).await?;
        let timestamp = self.next_timestamp();
        let consistency = self.session.write_consistency();
        let marks = self.catalog.hours_of_new_partitions();
        let records = self.catalog.take_batches(&self.statements, consistency, timestamp);
        self.write(records.into_iter().map(|record| (record, marks.clone())).collect()).await?;
        if self.catalog.is_full() {
            self.catalog.forget();
        }
        Ok(())
    }

    fn seal(&mut self, open: Open) -> (SealedBatch, Marks) {
        let timestamp = self.next_timestamp();
        let marks = open.hours.into_iter().map(|(_, mark)| mark).collect();
        (open.batch.seal(self.session.write_consistency(), timestamp), marks)
    }

    fn next_timestamp(&mut self) -> i64 {
        self.last_timestamp = chrono::Utc::now().timestamp_micros().max(self.last_timestamp + 1);
        self.last_timestamp
    }

    async fn write(&self, batches: Vec<(SealedBatch, Marks)>) -> Result<(), Error> {
        stream::iter(batches)
            .map(|(batch, marks)| async move { self.write_marked(&batch, &marks).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn write_marked(&self, batch: &SealedBatch, marks: &[Arc<HourMark>]) -> Result<(), Error> {
        self.ensure(marks).await?;
        let started = Instant::now();
        write(&self.session, batch).await?;
        if started.elapsed() > LONG_ATTEMPT {
            // The rows may have become visible only now, when the marks were acted upon long ago.
            for mark in marks {
                mark.expire().await;
            }
            self.ensure(marks).await?;
        }
        Ok(())
    }

    /// Makes the marks that are missing.
    async fn ensure(&self, marks: &[Arc<HourMark>]) -> Result<(), Error> {
        for mark in marks {
            let Some(missing) = mark.missing().await else { continue };
            write(&self.session, &missing.seal(&self.statements, self.session.write_consistency())).await?;
            missing.made();
        }
        Ok(())
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
