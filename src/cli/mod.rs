//! The command line: global flags here, each verb's own flags beside its code in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::config::Sources;
use crate::output::ColorChoice;

/// Run an IoT analytics platform on Apache Kafka and Apache Cassandra.
#[derive(Debug, Parser)]
#[command(name = "iotctl", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Start here:  iotctl demo\nThen:        iotctl query --location plant-1 --device-type thermostat --last 1h"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Config file [default: ./iotctl.toml, else the user's config folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Cassandra contact points, comma-separated
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub contact_points: Option<String>,
    /// Cassandra keyspace
    #[arg(long, global = true, value_name = "NAME")]
    pub keyspace: Option<String>,
    /// Kafka bootstrap servers, comma-separated
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// Kafka topic of the readings
    #[arg(long, global = true, value_name = "NAME")]
    pub topic: Option<String>,
    /// Any setting of the config file, such as `-O ingest.batch_rows=100`; may be given again
    #[arg(short = 'O', long = "option", global = true, value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub options: Vec<(String, String)>,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: ColorChoice,
    /// No progress and no remarks, only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log to stderr: -v decisions, -vv each step, -vvv the libraries too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Parses this process's arguments, or ends it with clap's message (exit code 2; 0 for --help).
    pub fn from_arguments() -> Self {
        let cli = Self::parse();
        // Where a global flag stands both before and after the command, clap keeps the latter and drops the former.
        let is_option = |argument: &String| {
            argument.starts_with("-O") || argument == "--option" || argument.starts_with("--option=")
        };
        if std::env::args().filter(is_option).count() > cli.global.options.len() {
            let message = "-O stands before and after the command: give all of them on one side of it\n";
            Self::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }
}

impl GlobalArgs {
    /// The sources of the configuration, as these flags name them.
    pub fn sources(&self) -> Sources {
        let named = [
            ("--contact-points", "cassandra.contact_points", &self.contact_points),
            ("--keyspace", "cassandra.keyspace", &self.keyspace),
            ("--brokers", "kafka.bootstrap_servers", &self.brokers),
            ("--topic", "kafka.topic", &self.topic),
        ];
        let named = named
            .into_iter()
            .filter_map(|(flag, key, value)| Some((flag.to_owned(), key.to_owned(), value.clone()?)));
        let options = self.options.iter().map(|(key, value)| ("-O".to_owned(), key.clone(), value.clone()));
        Sources { file: self.config.clone(), flags: named.chain(options).collect() }
    }
}

/// Splits the `section.key=value` of `-O`.
fn setting(option: &str) -> Result<(String, String), String> {
    match option.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("there is no `=` in it (write -O kafka.topic=readings)".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start servers, run readings through them, ask questions: the whole platform in one go
    Demo(commands::demo::DemoArgs),
    /// Start Cassandra and Kafka on this machine
    Up(commands::up::UpArgs),
    /// Stop what `up` started
    Down(commands::down::DownArgs),
    /// Cassandra, Kafka, the schema, the lag, the disk and what is due, on one screen
    ///
    /// Looks at the configured servers, with TLS and passwords as configured, and at the processes of `iotctl up`. A server
    /// that is away is said and hides nothing else. Exit code 0 when all is well, 1 when something needs attention.
    Status(commands::status::StatusArgs),
    /// Check servers, schema, replicas, clocks, retention, disk and encryption; each with what to do
    ///
    /// Changes nothing. What cannot be checked is said as skipped, with the reason. Exit code 1 when a check failed; warnings
    /// alone are exit code 0.
    Doctor(commands::doctor::DoctorArgs),
    /// A live view of rates, lag, nodes and partitions on the whole screen
    ///
    /// `produced` and `consumed` are what the topic and the group's committed offsets grow by; `mutations` and each node's
    /// writes are what the nodes stored (a batch of one partition is one). Latencies are of about the last five minutes.
    /// Keys: q or Esc quit, p pauses, Tab changes between nodes and partitions, arrows choose a row.
    Top(commands::top::TopArgs),
    /// The fleet in a browser: values, charts, silent sensors, the pipeline; live and read-only
    Dashboard(commands::dashboard::DashboardArgs),
    /// List the nodes of Cassandra, add one, decommission one
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    /// Apply, show or check the schema
    #[command(subcommand)]
    Schema(commands::schema::SchemaCommand),
    /// Send the readings of a simulated fleet, or recorded ones, to Kafka
    Simulate(commands::simulate::SimulateArgs),
    /// Move readings from Kafka into Cassandra without losing one
    Ingest(commands::ingest::IngestArgs),
    /// Export lag, offsets and each node's health for Prometheus
    Monitor(commands::monitor::MonitorArgs),
    Healthcheck(commands::healthcheck::HealthcheckArgs),
    /// Readings of a group or a sensor
    Query(commands::query::QueryArgs),
    /// Each sensor's highest or lowest value, ranked
    Extremes(commands::extremes::ExtremesArgs),
    Stats(commands::stats::StatsArgs),
    /// Values unlike the others: beyond a limit, the usual, the season or the peers
    Anomalies(commands::anomalies::AnomaliesArgs),
    Forecast(commands::forecast::ForecastArgs),
    /// Groups and sensors with their last reading
    Sensors(commands::sensors::SensorsArgs),
    Rollup(commands::rollup::RollupArgs),
    Purge(commands::purge::PurgeArgs),
    /// Sensors that have sent nothing for longer than they should
    Silent(commands::silent::SilentArgs),
    Alerts(commands::alerts::AlertsArgs),
    /// List, show, export or replay what could not be stored
    #[command(subcommand)]
    DeadLetters(commands::dead_letters::DeadLettersCommand),
    /// Stored readings as Parquet, CSV or NDJSON files
    Export(commands::export::ExportArgs),
    /// Historical readings from files, through Kafka or straight into Cassandra
    Import(commands::import::ImportArgs),
    /// Spark jobs over the stored readings: list them, run one
    #[command(subcommand)]
    Batch(commands::batch::BatchCommand),
    /// Check that no reading is missing: ledger, topic and tables compared
    Audit(commands::audit::AuditArgs),
    /// Show the effective configuration, or write a commented file
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its path, such as `iotctl node add`.
    fn commands(path: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        found.push((path.to_owned(), command.clone()));
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            commands(&format!("{path} {}", inner.get_name()), inner, found);
        }
    }

    fn all() -> Vec<(String, clap::Command)> {
        let (mut cli, mut found) = (Cli::command(), Vec::new());
        cli.build();
        commands("iotctl", &cli, &mut found);
        assert!(found.len() > 40, "{}", found.len());
        found
    }

    fn without_help(commands: &[(String, clap::Command)]) -> Vec<String> {
        let is_empty = |text: Option<&clap::builder::StyledStr>| {
            text.is_none_or(|text| text.to_string().trim().is_empty())
        };
        let mut missing = Vec::new();
        for (path, command) in commands {
            if is_empty(command.get_about()) {
                missing.push(path.clone());
            }
            let arguments = command.get_arguments().filter(|argument| is_empty(argument.get_help()));
            missing.extend(arguments.map(|argument| format!("{path}: {}", argument.get_id())));
        }
        missing
    }

    #[test]
    fn every_command_and_every_flag_has_help() {
        assert_eq!(without_help(&all()), Vec::<String>::new());
        let bare = clap::Command::new("bare").arg(clap::Arg::new("flag").long("flag"));
        assert_eq!(without_help(&[("bare".to_owned(), bare)]), ["bare", "bare: flag"]);
    }

    #[test]
    fn every_command_that_does_something_shows_examples() {
        let missing: Vec<_> = all()
            .into_iter()
            .filter(|(path, command)| !command.has_subcommands() && !path.starts_with("iotctl config "))
            .filter(|(_, command)| {
                !command.get_after_help().is_some_and(|text| text.to_string().contains("Examples:"))
            })
            .map(|(path, _)| path)
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }
}
