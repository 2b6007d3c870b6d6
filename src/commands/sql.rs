//! `iotctl sql`: statements of SQL over the tables, one, a file of them, or at a prompt.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::Context;
use super::flags::{PlotArgs, ZoneArgs};
#[cfg(feature = "sql")]
use crate::output::Format;

#[cfg(feature = "sql")]
mod answer;
#[cfg(feature = "sql")]
mod chart;
#[cfg(feature = "sql")]
mod copy;
#[cfg(feature = "sql")]
mod file;
#[cfg(feature = "sql")]
mod input;
#[cfg(feature = "sql")]
mod prompt;
#[cfg(feature = "sql")]
mod script;
#[cfg(feature = "sql")]
mod session;
#[cfg(feature = "sql")]
mod values;

/// Ask the readings in SQL. Only in builds with it (cargo build --features sql).
///
/// Tables: readings, latest (the newest reading of each sensor), sensors, groups, hourly, daily, alerts, dead_letters and
/// forecasts. Conditions on location,
/// device_type, iot_sensor_id and the time choose what is read; EXPLAIN shows it. Other metrics are columns. Nothing can be changed.
///
/// Without a statement there is a prompt, if standard input is a terminal; else the statements in standard input are run, each up to
/// its semicolon. Besides SQL there are .tables, .schema TABLE, .timing, .help and .quit. Aggregates by group, sensor and time are
/// answered from rollups where these have the answer; --raw and `SET iotctl.rollups = false` use raw rows only.
///
/// Functions: those of Apache DataFusion (as in PostgreSQL), time_bucket(width, time [, zone]), time_bucket_gapfill with locf and
/// interpolate, first, last, delta, increase, rate and time_weighted_average (value, time), approx_percentile(value, 0.95),
/// histogram(value, lowest, highest, buckets), metric(other_metrics, 'name'), tag(tags, 'key').
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl sql                                    # a prompt: .help, Ctrl-D ends
  iotctl sql 'SELECT * FROM readings ORDER BY recorded_timestamp DESC LIMIT 10'
  iotctl sql \"SELECT time_bucket('1 hour', recorded_timestamp) AS hour, avg(temperature) FROM readings GROUP BY 1 ORDER BY 1\"
  iotctl sql \"SELECT location, max(temperature) FROM latest GROUP BY location\" --format csv
  iotctl sql \"SELECT time_bucket('1 hour', recorded_timestamp) AS hour, location, avg(temperature) FROM readings GROUP BY 1, 2\" --plot
  iotctl sql 'SELECT * FROM daily' --format parquet --output daily.parquet
  iotctl sql \"COPY (SELECT * FROM readings WHERE location = 'plant-1') TO 'plant-1.csv'\"
  iotctl sql \"EXPLAIN SELECT count(*) FROM readings WHERE location = 'plant-1'\"
  iotctl sql '.schema readings'
  iotctl sql --timeout 10m < questions.sql")]
pub struct SqlArgs {
    /// The statement, or several with semicolons [default: a prompt, or what stands in standard input]
    #[arg(value_name = "STATEMENT")]
    pub statement: Option<String>,
    /// Stop a statement after this time
    #[arg(long, value_name = "LENGTH", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Memory for sorting, joining and grouping; beyond it, they write to temporary files
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub memory: ByteSize,
    /// Use raw rows only, no rollups
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: SqlFormat,
    /// Write the answer to this file; parquet needs it
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub plot: PlotArgs,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SqlFormat {
    /// For people: aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180 with a heading line.
    Csv,
    /// Apache Parquet, with --output.
    Parquet,
}

#[cfg(feature = "sql")]
impl SqlFormat {
    /// `None` for Parquet.
    fn of_records(self) -> Option<Format> {
        match self {
            Self::Table => Some(Format::Table),
            Self::Json => Some(Format::Json),
            Self::Ndjson => Some(Format::Ndjson),
            Self::Csv => Some(Format::Csv),
            Self::Parquet => None,
        }
    }
}

#[cfg(feature = "sql")]
pub async fn run(args: SqlArgs, context: Context) -> anyhow::Result<()> {
    session::run(args, context).await
}

#[cfg(not(feature = "sql"))]
pub async fn run(_: SqlArgs, _: Context) -> anyhow::Result<()> {
    Err(super::support::without_sql().into())
}
