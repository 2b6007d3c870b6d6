//! The ceiling that `ingest` is measured against: the same rows in the same batches, written straight from memory,
//! with nothing to fetch, decode, track or commit. Needs a Cassandra with the schema applied; `benches/pipeline.sh`
//! runs it beside the pipeline and prints the ratio.
//!
//! `cargo bench --bench ceiling -- --rows 500000 [-O cassandra.keyspace=…]`

use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt;
use iotctl::cassandra::writes::{self, WriteStatements};
use iotctl::cassandra::{SealedBatch, Session, Values};
use iotctl::config::{Config, Loaded, Sources};
use iotctl::reading::{Bucket, Reading};
use uuid::Uuid;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 500_000)]
    rows: usize,
    #[arg(long, default_value_t = 1000)]
    sensors: usize,
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
    tokio::runtime::Runtime::new()?.block_on(run(&config, arguments.rows, arguments.sensors))
}

async fn run(config: &Config, rows: usize, sensors: usize) -> anyhow::Result<()> {
    let session = Session::connect(&config.cassandra).await?;
    // The other nodes' connections are opened in the background.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let batches = batches(&session, config, rows, sensors).await?;
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

/// The default fleet's shape: 5 locations x 5 device types, one reading per sensor and second.
async fn batches(
    session: &Session,
    config: &Config,
    rows: usize,
    sensors: usize,
) -> anyhow::Result<Vec<SealedBatch>> {
    let statements = WriteStatements::prepare(session).await?;
    let start = 1_750_000_000_000_i64;
    let mut values = Values::new();
    let mut open = std::collections::HashMap::new();
    let mut sealed = Vec::new();
    for row in 0..rows {
        let (sensor, second) = (row % sensors, (row / sensors) as i64);
        let (location, device_type) = (format!("plant-{}", sensor % 5), format!("type-{}", sensor / 5 % 5));
        let reading = Reading {
            location: location.as_str().into(),
            device_type: device_type.as_str().into(),
            sensor: Uuid::from_u128(sensor as u128),
            recorded_at: start + second * 1000,
            temperature: Some(20.0 + (row % 100) as f32 / 10.0),
            humidity: Some(45.5),
            pressure: Some(1013.25),
            motion_detected: Some(row % 2 == 0),
            light_level: Some(300.5),
            gas_concentration: Some(400.25),
            other_metrics: vec![("battery_voltage".into(), 3.3)],
        };
        let bucket = Bucket::containing(reading.recorded_at, config.schema.bucket);
        writes::bind_reading(&mut values, &reading, bucket);
        let batch = open
            .entry((location.clone(), device_type.clone(), bucket))
            .or_insert_with(|| statements.readings_batch(&location, &device_type, bucket));
        batch.push(&values);
        if batch.rows() == config.ingest.batch_rows {
            let full = std::mem::replace(batch, statements.readings_batch(&location, &device_type, bucket));
            sealed.push(full.seal(config.cassandra.write_consistency, start * 1000 + row as i64));
        }
    }
    let rest = open.into_values().filter(|batch| !batch.is_empty());
    sealed.extend(rest.map(|batch| batch.seal(config.cassandra.write_consistency, start * 1000)));
    Ok(sealed)
}
