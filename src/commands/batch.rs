//! `iotctl batch`: Spark jobs over the stored readings.

use std::ffi::OsString;
use std::path::PathBuf;

use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand};

use super::Context;
use super::flags::TimeArgs;
use crate::error::UsageError;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::time::Zone;
use crate::transfer::spark::{self, JOBS, Run};

#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// List the jobs
    List(ListArgs),
    /// Run a job with spark-submit
    Run(Box<RunArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl batch list
  iotctl batch list --format ndjson | jq -r .name")]
pub struct ListArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Run a job with spark-submit.
///
/// Needs Spark 3.5 (SPARK_HOME, an active virtual environment with pyspark, or the PATH) and Java 17 or 11. Maven fetches
/// the connector's jars on the first run. Contact points, keyspace, login and TLS come from the configuration. The password
/// is passed in the environment, never as an argument.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl batch run hourly_aggregates --last 7d --output hourly/
  iotctl batch run fleet_health --table fleet_health
  iotctl batch run daily_aggregates --master spark://10.0.0.9:7077 --output hdfs:///daily -- --executor-memory 4g")]
pub struct RunArgs {
    /// Name of the job, as `iotctl batch list` prints it
    pub name: String,
    /// URL of the Spark master
    #[arg(long, value_name = "URL", default_value = "local[*]")]
    pub master: String,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Folder for Parquet files; its contents are replaced
    #[arg(long, short, value_name = "DIR", required_unless_present = "table")]
    pub output: Option<PathBuf>,
    /// Table of the keyspace; created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Further arguments for spark-submit
    #[arg(last = true)]
    pub extra: Vec<String>,
}

pub async fn run(command: BatchCommand, context: Context) -> anyhow::Result<()> {
    match command {
        BatchCommand::List(args) => list(&args, &context),
        BatchCommand::Run(args) => run_job(*args, context).await,
    }
}

fn list(args: &ListArgs, context: &Context) -> anyhow::Result<()> {
    let headings = vec![Heading::left("name"), Heading::left("about")];
    let mut records = context.output.records(args.format, Zone::Utc, headings)?;
    for job in JOBS {
        records.write(&[Cell::Text(job.name), Cell::Text(job.about)])?;
    }
    records.finish().map(drop)
}

async fn run_job(args: RunArgs, context: Context) -> anyhow::Result<()> {
    let job = spark::job(&args.name)?;
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let mut script_arguments: Vec<OsString> = Vec::new();
    for (flag, at) in [("--from", range.from), ("--to", range.to)] {
        if at != i64::MIN && at != i64::MAX {
            let moment = chrono::DateTime::from_timestamp_millis(at)
                .ok_or_else(|| UsageError::new(format!("{flag} is beyond the calendar")))?;
            script_arguments.push(flag.into());
            script_arguments.push(moment.to_rfc3339_opts(SecondsFormat::Millis, true).into());
        }
    }
    if let Some(output) = &args.output {
        script_arguments.extend(["--output".into(), output.into()]);
    }
    if let Some(table) = &args.table {
        let is_name = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        };
        if !is_name(table) {
            return Err(UsageError::new(format!("{table:?} is not a table name (use a-z, 0-9 and _)")).into());
        }
        script_arguments.extend(["--table".into(), table.into()]);
    }
    let run = Run { master: args.master, script_arguments, extra: args.extra };
    spark::run(job, run, &context.config, context.output, &context.shutdown).await
}
