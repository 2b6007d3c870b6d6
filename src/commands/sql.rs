//! `iotctl sql`: a statement of SQL over the tables.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::Context;
use super::flags::ZoneArgs;
use crate::error::UsageError;
use crate::output::Format;

#[cfg(feature = "sql")]
mod answer;

/// Ask the readings in SQL. Only in builds with it (cargo build --features sql).
///
/// Tables: readings, latest (the newest reading of each sensor), sensors, groups, hourly, daily, alerts, dead_letters and
/// forecasts. Conditions on location,
/// device_type, iot_sensor_id and the time choose what is read; EXPLAIN shows it. Other metrics are columns. The statements
/// .tables and .schema NAME list tables and columns. Nothing can be changed.
///
/// Functions: those of Apache DataFusion (as in PostgreSQL), time_bucket(width, time [, zone]), first, last, delta, increase, rate
/// and time_weighted_average (value, time), approx_percentile(value, 0.95), metric(other_metrics, 'name'), tag(tags, 'key').
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl sql 'SELECT * FROM readings ORDER BY recorded_timestamp DESC LIMIT 10'
  iotctl sql \"SELECT time_bucket('1 hour', recorded_timestamp) AS hour, avg(temperature) FROM readings GROUP BY 1 ORDER BY 1\"
  iotctl sql \"SELECT location, max(temperature) FROM latest GROUP BY location\" --format csv
  iotctl sql \"EXPLAIN SELECT count(*) FROM readings WHERE location = 'plant-1'\"
  iotctl sql .tables
  iotctl sql '.schema readings'
  iotctl sql --timeout 10m < question.sql")]
pub struct SqlArgs {
    /// The statement [default: what stands in standard input]
    #[arg(value_name = "STATEMENT")]
    pub statement: Option<String>,
    /// Stop the statement after this time
    #[arg(long, value_name = "LENGTH", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Memory for sorting, joining and grouping; beyond it, they write to temporary files
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub memory: ByteSize,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub async fn run(args: SqlArgs, context: Context) -> anyhow::Result<()> {
    let statement = match &args.statement {
        Some(statement) => statement.clone(),
        None if std::io::stdin().is_terminal() => {
            return Err(UsageError::new("no statement (write iotctl sql 'SELECT …')").into());
        }
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let statement = statement.trim().trim_end_matches(';').trim_end();
    if statement.is_empty() {
        return Err(UsageError::new("the statement is empty (write iotctl sql 'SELECT …')").into());
    }
    answer(&args, statement, context).await
}

#[cfg(feature = "sql")]
async fn answer(args: &SqlArgs, statement: &str, context: Context) -> anyhow::Result<()> {
    answer::print(args, statement, context).await
}

#[cfg(not(feature = "sql"))]
async fn answer(_: &SqlArgs, _: &str, _: Context) -> anyhow::Result<()> {
    Err(super::support::without_sql().into())
}
