//! The ceiling that `ingest` is measured against: the same rows in the same batches, written straight from memory,
//! with nothing to fetch, decode, track or commit. Needs a Cassandra with the schema applied; `benches/pipeline.sh`
//! runs it beside the pipeline and prints the ratio.
//!
//! `iotctl simulate --stdout … >readings; cargo bench --bench ceiling -- --readings readings [-O cassandra.keyspace=…]`

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt;
use iotctl::cassandra::{SealedBatch, Session, Values};
use iotctl::config::{Config, Loaded, Sources};
use iotctl::reading::Bucket;
use iotctl::reading::decode::{DecodeLimits, decode};
use iotctl::store::writes::{self, WriteStatements, Written};

#[derive(Debug, Parser)]
struct Arguments {
    /// NDJSON in the wire format; read and decoded before the clock starts.
    #[arg(long)]
    readings: PathBuf,
    /// Settings, as iotctl takes them.
    #[arg(short = 'O', long = "option")]
    options: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let flags = arguments.options.iter().map(|option| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        ("-O".to_owned(), key.to_owned(), value.to_owned())
    });
    let config = Loaded::load(&Sources { file: None, flags: flags.collect() })?.config;
    tokio::runtime::Runtime::new()?.block_on(run(&config, &arguments.readings))
}

async fn run(config: &Config, readings: &Path) -> anyhow::Result<()> {
    let session = Session::connect(&config.cassandra).await?;
    // The other nodes' connections are opened in the background.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let batches = batches(&session, config, readings).await?;
    let rows: usize = batches.iter().map(SealedBatch::rows).sum();
    let started = Instant::now();
    let mut writes = futures::stream::iter(&batches)
        .map(|batch| session.write(batch))
        .buffer_unordered(config.ingest.max_in_flight_batches);
    while let Some(result) = writes.next().await {
        result?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let report =
        serde_json::json!({ "rows": rows, "seconds": seconds, "rows_per_second": rows as f64 / seconds });
    iotctl::output::Output::new(iotctl::output::ColorChoice::Never, true).print(report.to_string())
}

/// The readings as batches of one partition each, in the order in which they fill up.
async fn batches(session: &Session, config: &Config, readings: &Path) -> anyhow::Result<Vec<SealedBatch>> {
    let statements = WriteStatements::prepare(session, &Default::default()).await?;
    let limits =
        DecodeLimits { max_message_bytes: usize::MAX, max_future_skew: Duration::MAX, is_any_time: false };
    let consistency = config.cassandra.write_consistency;
    let mut values = Values::new();
    let mut open = HashMap::new();
    let mut sealed = Vec::new();
    for line in BufReader::new(File::open(readings)?).lines() {
        let line = line?;
        let reading = decode(line.as_bytes(), &limits, 0)?.reading;
        let bucket = Bucket::containing(reading.recorded_at, config.schema.bucket);
        writes::bind_reading(&mut values, &reading, bucket);
        let new = || statements.readings_batch(&reading.location, &reading.device_type, bucket);
        let key = (reading.location.to_string(), reading.device_type.to_string(), bucket);
        let batch = open.entry(key).or_insert_with(new);
        statements.push_reading(batch, &reading, &values, Written::First);
        if batch.rows() == config.ingest.batch_rows {
            let full = std::mem::replace(batch, new());
            sealed.push(full.seal(consistency, sealed.len() as i64 + 1));
        }
    }
    let rest = open.into_values().filter(|batch| !batch.is_empty());
    sealed.extend(rest.map(|batch| batch.seal(consistency, 1)));
    Ok(sealed)
}
