//! `iotctl demo`: the whole platform, once. Each step is a command as a user would type it, shown and then run by the same
//! code.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::{Args, Parser};

use super::{Context, dispatch, support};
use crate::analytics::count;
use crate::cassandra::Session;
use crate::cli::Cli;
use crate::error::Interrupted;
use crate::ingestion::IngestMetrics;
use crate::ingestion::{Ending, Options};
use crate::metrics::Health;
use crate::servers::local::{self, Running, UpOptions};

/// Sensors and the time between two readings of each; an hour of them is the demo's set.
const SENSORS: u64 = 500;
const STEP_SECONDS: u64 = 10;
const READINGS: u64 = SENSORS * 3600 / STEP_SECONDS;

/// Run the whole platform once, from servers to answers.
///
/// Starts Cassandra and Kafka on this machine, creates tables and topics, sends 180,000 simulated readings through Kafka,
/// stores and counts them, and asks two questions. The servers keep running.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl demo            # the servers keep running
  iotctl demo --down     # the servers are stopped at the end")]
pub struct DemoArgs {
    /// Stop the servers at the end
    #[arg(long)]
    pub down: bool,
}

pub async fn run(args: DemoArgs, mut context: Context) -> anyhow::Result<()> {
    show(&context, "iotctl up")?;
    let unfinished = super::up::unfinished(&context.config.local, &context)?;
    let http = context.config.http.clone();
    let options = UpOptions { unfinished, http, ..UpOptions::default() };
    let running = local::up(&context.config.local, &options, &context.output, &context.shutdown).await?;
    context.output.table(&support::server_table(&running.servers))?;
    use_servers(&mut context, &running);
    let result = steps(&context).await;
    if args.down {
        show(&context, "iotctl down")?;
        let stopped = local::down(&context.config.local).await?;
        context.output.note(format!("{} servers stopped, their data is kept", stopped.len()));
    }
    result?;
    if !args.down {
        next(&context);
    }
    Ok(())
}

/// The demo uses its own servers, whatever else is configured.
fn use_servers(context: &mut Context, running: &Running) {
    context.config.cassandra.contact_points = running.cassandra.iter().map(ToString::to_string).collect();
    context.config.kafka.bootstrap_servers = running.kafka.iter().map(ToString::to_string).collect();
}

async fn steps(context: &Context) -> anyhow::Result<()> {
    step(context, &["schema", "apply"]).await?;
    let session = Session::connect(&context.config.cassandra).await?;
    let before = count::rows(&session).await?;
    let start: DateTime<Utc> = (Utc::now() - TimeDelta::hours(1)).trunc_subsecs(0);
    let (readings, sensors, step_width) =
        (READINGS.to_string(), SENSORS.to_string(), format!("{STEP_SECONDS}s"));
    let start = start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    step(
        context,
        &[
            "simulate",
            "--rate",
            "0",
            "--count",
            &readings,
            "--sensors",
            &sensors,
            "--start",
            &start,
            "--step",
            &step_width,
        ],
    )
    .await?;
    ingest(context, session.clone()).await?;
    verify(context, &session, before).await?;
    step(
        context,
        &[
            "query",
            "--location",
            "plant-1",
            "--device-type",
            "thermostat",
            "--last",
            "1h",
            "--limit",
            "10",
            "--columns",
            "recorded_timestamp,iot_sensor_id,temperature,humidity",
        ],
    )
    .await?;
    step(context, &["extremes", "--metric", "temperature", "--last", "2h", "--top", "5", "--both"]).await
}

/// Shows a command and runs it.
async fn step(context: &Context, arguments: &[&str]) -> anyhow::Result<()> {
    if context.shutdown.is_requested() {
        return Err(Interrupted.into());
    }
    show(context, &format!("iotctl {}", arguments.join(" ")))?;
    let cli = Cli::try_parse_from(std::iter::once(&"iotctl").chain(arguments))?;
    // Boxed: the commands' futures are large, and this one holds one of each.
    Box::pin(dispatch(cli.command, context.clone())).await
}

async fn ingest(context: &Context, session: Session) -> anyhow::Result<()> {
    show(context, "iotctl ingest --until-end")?;
    let options = Options { until_end: true, ..Options::default() };
    let (report, ending) =
        super::ingest::ingest(context, session, options, IngestMetrics::new()?, Health::default()).await?;
    super::ingest::print(&report, crate::output::Format::Table, &context.output)?;
    match ending {
        Ending::ReachedEnd => Ok(()),
        Ending::Stopped | Ending::StoppedUndrained => Err(Interrupted.into()),
    }
}

/// Counts the rows in Cassandra. There are more than were sent where an earlier, unfinished demo left messages in the topic.
async fn verify(context: &Context, session: &Session, before: u64) -> anyhow::Result<()> {
    let found = count::rows(session).await?.saturating_sub(before);
    anyhow::ensure!(
        found >= READINGS,
        "{found} of {READINGS} readings were found in Cassandra (see `iotctl status` and the servers' logs)"
    );
    context.output.print(format!(
        "\n✓ {} readings sent, {} new rows counted in Cassandra",
        indicatif::HumanCount(READINGS),
        indicatif::HumanCount(found)
    ))
}

fn show(context: &Context, command: &str) -> anyhow::Result<()> {
    let (bold, plain) = if context.output.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    context.output.print(format!("\n{bold}$ {command}{plain}"))
}

fn next(context: &Context) {
    context.output.note(
        "\nthe servers keep running; try next:
  iotctl simulate --rate 5000 &            # a live fleet
  iotctl ingest                            # store its readings
  iotctl query --location plant-1 --device-type thermostat --where 'temperature > 24'
  iotctl sensors                           # every sensor with its last reading
  iotctl status                            # servers, lag and schema
  iotctl down                              # stop the servers, keep the data",
    );
}
