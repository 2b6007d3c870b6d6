//! `iotctl schema apply|show|check`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::Context;
use crate::cassandra::Session;
use crate::config::{Config, KafkaConfig, duration};
use crate::error::Interrupted;
use crate::kafka::{self, topics};
use crate::output::text::plural;
use crate::output::{Output, ReportFormat, table};
use crate::store::schema::{self, Change, ExistingOptions, Plan, Settings, State};

#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Create missing tables, columns and topics; never drops, and alters options only on request
    Apply(ApplyArgs),
    /// Print the schema with the settings filled in, without asking any server
    Show(ShowArgs),
    /// Compare the existing schema with the expected one; exit code 1 if they differ
    Check(CheckArgs),
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  iotctl schema apply                              # keyspace, tables, view and topics
  iotctl schema apply --dry-run | cqlsh            # print it first, or let cqlsh run it
  iotctl schema apply --replication-factor 1       # for a cluster with one node
  iotctl -O schema.ttl=30d schema apply --alter-options")]
pub struct ApplyArgs {
    /// Print the CQL that would run, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Change retention, compaction and replication of existing tables to the configured values
    #[arg(long)]
    pub alter_options: bool,
    #[command(flatten)]
    pub replication: ReplicationArgs,
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  iotctl schema show
  iotctl schema show | cqlsh
  iotctl schema show --format json | jq .topics")]
pub struct ShowArgs {
    #[command(flatten)]
    pub replication: ReplicationArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ShowFormat,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  iotctl schema check
  iotctl schema check --skip-kafka
  iotctl schema check --format json | jq '.[] | select(.state != \"in order\")'")]
pub struct CheckArgs {
    #[command(flatten)]
    pub replication: ReplicationArgs,
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ReplicationArgs {
    /// Replicas of each row, with SimpleStrategy [default: schema.datacenters, else schema.replication_factor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub replication_factor: Option<u32>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Skip Kafka and its topics
    #[arg(long, conflicts_with = "skip_cassandra")]
    pub skip_kafka: bool,
    /// Skip Cassandra
    #[arg(long)]
    pub skip_cassandra: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ShowFormat {
    /// CQL, for cqlsh
    #[default]
    Cql,
    /// One JSON document
    Json,
}

pub async fn run(command: SchemaCommand, context: Context) -> anyhow::Result<()> {
    match command {
        SchemaCommand::Apply(args) => apply(args, context).await,
        SchemaCommand::Show(args) => show(args, context),
        SchemaCommand::Check(args) => check(args, context).await,
    }
}

impl ReplicationArgs {
    /// The configuration with the flag applied, and whether the user chose the replication.
    fn configure(&self, context: &Context) -> (Config, bool) {
        let mut config = context.config.clone();
        if let Some(factor) = self.replication_factor {
            config.schema.replication_factor = factor;
            config.schema.datacenters.clear();
        }
        let is_set = self.replication_factor.is_some()
            || !config.schema.datacenters.is_empty()
            || context.given.contains("schema.replication_factor");
        (config, is_set)
    }
}

/// An object of the schema, or a topic, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    kind: &'static str,
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

impl Line {
    fn topic(name: &str, state: &'static str, details: Vec<String>) -> Self {
        Self { kind: "topic", name: name.to_owned(), state, details }
    }
}

/// Creates what is missing. Finished steps are printed even if a later step fails.
pub async fn apply(args: ApplyArgs, context: Context) -> anyhow::Result<()> {
    let (config, replication_is_set) = args.replication.configure(&context);
    let mut lines = Vec::new();
    let work = async {
        if !args.servers.skip_cassandra {
            let session = Session::connect(&config.cassandra).await?;
            let plan = Plan::make(&session, &config, replication_is_set).await?;
            plan.notes.iter().for_each(|note| context.output.note(format!("note: {note}")));
            match args.dry_run {
                true => print_plan(&plan, existing_options(&args), &context.output)?,
                false => {
                    apply_plan(&plan, &session, existing_options(&args), &context.output, &mut lines).await?;
                }
            }
        }
        if !args.servers.skip_kafka {
            match args.dry_run {
                true => print_topics(&config.kafka, &context.output).await?,
                false => create_topics(&config.kafka, &context.output, &mut lines).await?,
            }
        }
        Ok(())
    };
    let result = tokio::select! {
        result = work => result,
        () = context.shutdown.requested() => Err(Interrupted.into()),
    };
    if !args.dry_run && !lines.is_empty() {
        print(&lines, args.format, &context.output)?;
    }
    result
}

fn existing_options(args: &ApplyArgs) -> ExistingOptions {
    if args.alter_options { ExistingOptions::Alter } else { ExistingOptions::Keep }
}

async fn apply_plan(
    plan: &Plan,
    session: &Session,
    options: ExistingOptions,
    output: &Output,
    lines: &mut Vec<Line>,
) -> anyhow::Result<()> {
    let spinner = output.spinner("applying the schema");
    let result = plan.apply(session, options, |step, changes| {
        let state = changes.first().map_or("exists", |change| change.outcome);
        spinner.set_message(format!("{} {state}", step.object()));
        lines.push(Line { kind: step.kind(), name: step.object(), state, details: consequences(changes) });
    });
    let result = result.await;
    spinner.finish_and_clear();
    Ok(result?)
}

/// What to do after options were altered.
fn consequences(changes: &[Change]) -> Vec<String> {
    let altered = changes.iter().filter(|change| change.outcome == "altered");
    altered
        .map(|change| match change.kind {
            "keyspace" => "run `nodetool repair -full` on each node to move the replicas".to_owned(),
            _ if change.cql.contains("default_time_to_live") => {
                "readings that are already stored keep their retention".to_owned()
            }
            _ => "compaction uses the new windows from now on".to_owned(),
        })
        .collect()
}

/// The CQL that would run, for people and for cqlsh; everything else is a comment.
fn print_plan(plan: &Plan, options: ExistingOptions, output: &Output) -> anyhow::Result<()> {
    let changes = plan.changes(options);
    for step in &plan.steps {
        let object = step.object();
        match &step.state {
            State::InOrder => output.print(comment(&format!("{} {object} exists", step.kind())))?,
            State::Missing => {}
            State::Differs(differences) => {
                for difference in differences {
                    output.print(comment(&format!("{object} differs: {}", difference.message)))?;
                }
            }
        }
        for change in changes.iter().flatten().filter(|change| change.object == object) {
            output.print(format!("{};\n", change.cql))?;
        }
    }
    changes?;
    Ok(())
}

fn comment(text: &str) -> String {
    text.lines().map(|line| format!("-- {line}")).collect::<Vec<_>>().join("\n")
}

fn topic_names(config: &KafkaConfig) -> [String; 4] {
    [
        config.topic.clone(),
        config.dead_letter_topic(),
        config.alerts_topic(),
        config.alerts_dead_letter_topic(),
    ]
}

async fn print_topics(config: &KafkaConfig, output: &Output) -> anyhow::Result<()> {
    for topic in topic_names(config) {
        let text = match topics::describe(config, &topic).await {
            Ok(found) => format!("Kafka topic {topic} exists, {}", plural(found.partitions, "partition")),
            Err(kafka::Error::MissingTopic { .. }) => format!(
                "Kafka topic {topic} would be created, {}, replication factor {}",
                plural(config.partitions, "partition"),
                topics::replication_of_new_topics(config).await?
            ),
            Err(error) => return Err(error.into()),
        };
        output.print(comment(&text))?;
    }
    Ok(())
}

async fn create_topics(config: &KafkaConfig, output: &Output, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let replication = topics::replication_of_new_topics(config).await?;
    for topic in topic_names(config) {
        let spinner = output.spinner(format!("topic {topic}"));
        let ensured = topics::ensure(config, &topic, config.partitions, replication).await;
        spinner.finish_and_clear();
        let (state, details) = match ensured? {
            topics::Ensured::Created => ("created", Vec::new()),
            topics::Ensured::Exists { partitions } if partitions == config.partitions => {
                ("exists", Vec::new())
            }
            topics::Ensured::Exists { partitions } => {
                let wanted = config.partitions;
                (
                    "exists",
                    vec![format!("{} instead of {wanted}; unchanged", plural(partitions, "partition"))],
                )
            }
        };
        lines.push(Line::topic(&topic, state, details));
    }
    Ok(())
}

/// Compares and changes nothing.
pub async fn check(args: CheckArgs, context: Context) -> anyhow::Result<()> {
    let (config, replication_is_set) = args.replication.configure(&context);
    let mut lines = Vec::new();
    let work = async {
        if !args.servers.skip_cassandra {
            let session = Session::connect(&config.cassandra).await?;
            let plan = Plan::make(&session, &config, replication_is_set).await?;
            plan.notes.iter().for_each(|note| context.output.note(format!("note: {note}")));
            lines.extend(plan.steps.iter().map(|step| {
                let (state, details) = match &step.state {
                    State::InOrder => ("in order", Vec::new()),
                    State::Missing => ("missing", Vec::new()),
                    State::Differs(differences) => {
                        ("differs", differences.iter().map(|difference| difference.message.clone()).collect())
                    }
                };
                Line { kind: step.kind(), name: step.object(), state, details }
            }));
        }
        if !args.servers.skip_kafka {
            for topic in topic_names(&config.kafka) {
                lines.push(check_topic(&config.kafka, &topic).await?);
            }
        }
        Ok(())
    };
    let result: anyhow::Result<()> = tokio::select! {
        result = work => result,
        () = context.shutdown.requested() => Err(Interrupted.into()),
    };
    if !lines.is_empty() {
        print(&lines, args.format, &context.output)?;
    }
    result?;
    verdict(&lines)
}

async fn check_topic(config: &KafkaConfig, topic: &str) -> anyhow::Result<Line> {
    let found = match topics::describe(config, topic).await {
        Ok(found) => found,
        Err(kafka::Error::MissingTopic { .. }) => return Ok(Line::topic(topic, "missing", Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut details = Vec::new();
    if found.partitions != config.partitions {
        details.push(format!(
            "{} instead of {} (set kafka.partitions, or alter the topic)",
            plural(found.partitions, "partition"),
            config.partitions
        ));
    }
    if let Some(wanted) = config.replication_factor.filter(|wanted| *wanted != found.replicas) {
        details.push(format!(
            "{} replicas instead of {wanted} (set kafka.replication_factor, or reassign the topic)",
            found.replicas
        ));
    }
    if !found.leaderless.is_empty() {
        details.push(format!("no leader for partitions {:?}", found.leaderless));
    }
    let state = if details.is_empty() { "in order" } else { "differs" };
    Ok(Line::topic(topic, state, details))
}

/// An error unless everything is in order, with the next step.
fn verdict(lines: &[Line]) -> anyhow::Result<()> {
    let count = |state| lines.iter().filter(|line| line.state == state).count();
    let (missing, differing) = (count("missing"), count("differs"));
    if missing + differing == 0 {
        return Ok(());
    }
    let remedy = match lines.iter().any(|line| line.state == "differs" && line.kind != "topic") {
        true => "`iotctl schema apply --dry-run` shows how to fix the differences",
        false if missing > 0 => "`iotctl schema apply` creates what is missing",
        false => "see the details above",
    };
    anyhow::bail!("the schema is not in order: {missing} missing, {differing} different ({remedy})")
}

fn print(lines: &[Line], format: ReportFormat, output: &Output) -> anyhow::Result<()> {
    match format {
        ReportFormat::Json => output.json(&lines),
        ReportFormat::Table => {
            // Without details there is no column for them.
            let columns = if lines.iter().all(|line| line.details.is_empty()) { 3 } else { 4 };
            let mut table = table::table(&["kind", "name", "state", "details"][..columns], &[]);
            for line in lines {
                let cells = [line.kind, &line.name, line.state, &line.details.join("\n")];
                table.add_row(&cells[..columns]);
            }
            output.table(&table)
        }
    }
}

/// What `schema show --format json` prints.
#[derive(Debug, Serialize)]
struct Effective {
    keyspace: String,
    /// As CQL writes it.
    replication: String,
    ttl_seconds: u64,
    /// Per device type, if it differs; stored with each row.
    retention_seconds: BTreeMap<String, u64>,
    hourly_rollups_seconds: u64,
    daily_rollups_seconds: u64,
    bucket_seconds: u64,
    window: String,
    topics: [String; 4],
    partitions: i32,
    /// `None` if it follows from the number of brokers.
    topic_replication_factor: Option<i32>,
    cql: String,
}

/// Prints the schema as the configuration fills it in.
pub fn show(args: ShowArgs, context: Context) -> anyhow::Result<()> {
    let (config, _) = args.replication.configure(&context);
    let settings = Settings::new(&config);
    let effective = Effective {
        replication: settings.replication.to_string(),
        ttl_seconds: settings.ttl_seconds,
        retention_seconds: config
            .retention
            .iter()
            .map(|(device_type, ttl)| (device_type.to_owned(), ttl.as_secs()))
            .collect(),
        hourly_rollups_seconds: config.rollup.hourly_retention.as_secs(),
        daily_rollups_seconds: config.rollup.daily_retention.as_secs(),
        bucket_seconds: config.schema.bucket.as_secs(),
        window: settings.window.to_string(),
        topics: topic_names(&config.kafka),
        partitions: config.kafka.partitions,
        topic_replication_factor: config.kafka.replication_factor,
        cql: schema::filled(&settings)?,
        keyspace: settings.keyspace,
    };
    match args.format {
        ShowFormat::Json => context.output.json(&effective),
        ShowFormat::Cql => {
            context.output.print(format!("{}\n\n{}", comment(&summary(&effective)), effective.cql.trim_end()))
        }
    }
}

fn summary(effective: &Effective) -> String {
    let exact = |seconds| duration::exact(Duration::from_secs(seconds));
    let topics = effective.topics.join(", ");
    let own: String = effective
        .retention_seconds
        .iter()
        .map(|(device_type, &seconds)| {
            format!("              {device_type}: {} (for readings stored from now on)\n", exact(seconds))
        })
        .collect();
    let rollups = (exact(effective.hourly_rollups_seconds), exact(effective.daily_rollups_seconds));
    format!(
        "Keyspace:     {}\nReplication:  {}\nRetention:    {}, compacted in windows of {}\n{own}\
         Rollups:      hourly for {}, daily for {}\n\
         Time bucket:  {} (may change at any time)\n\
         Kafka topics: {topics}: {} partitions, replication factor {}",
        effective.keyspace,
        effective.replication,
        exact(effective.ttl_seconds),
        effective.window,
        rollups.0,
        rollups.1,
        exact(effective.bucket_seconds),
        effective.partitions,
        effective
            .topic_replication_factor
            .map_or_else(|| "3, or 1 with fewer than three brokers".to_owned(), |factor| factor.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: &'static str) -> Line {
        Line::topic("t", state, Vec::new())
    }

    #[test]
    fn a_schema_in_order_passes_and_any_other_fails_with_what_to_do() {
        assert!(verdict(&[line("in order"), line("in order")]).is_ok());
        let failure = |lines: &[Line]| verdict(lines).unwrap_err().to_string();
        let missing = failure(&[line("in order"), line("missing")]);
        assert!(missing.contains("1 missing, 0 different (`iotctl schema apply` creates"), "{missing}");
        let table = Line { kind: "table", ..line("differs") };
        assert!(
            failure(&[table, line("missing")])
                .contains("1 missing, 1 different (`iotctl schema apply --dry-run`")
        );
        assert!(failure(&[line("differs")]).contains("0 missing, 1 different (see the details"));
    }

    #[test]
    fn a_dry_run_comments_every_line() {
        assert_eq!(comment("one\ntwo"), "-- one\n-- two");
    }
}
