//! The command line: global flags here, each verb's own flags beside its code in [`crate::commands`]. What `--help` shows,
//! and the list of verbs by task, is in [`help`].

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands;
use crate::config::Sources;
use crate::output::ColorChoice;

pub mod help;

/// Run an IoT analytics platform on Apache Kafka and Apache Cassandra.
#[derive(Debug, Parser)]
#[command(name = "iotctl", max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Default, Args)]
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
    /// Kafka topic of readings
    #[arg(long, global = true, value_name = "NAME")]
    pub topic: Option<String>,
    /// Any setting of the config file, such as `-O ingest.batch_rows=100`; repeatable
    #[arg(short = 'O', long = "option", global = true, value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub options: Vec<(String, String)>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: ColorChoice,
    /// Print results and errors only, no progress and no remarks
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more to stderr: -v decisions, -vv each step, -vvv libraries as well
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Parses this process's arguments, or ends it with clap's message (exit code 2; 0 for --help).
    pub fn from_arguments() -> Self {
        let cli = Self::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
        // Where a global flag stands both before and after the command, clap keeps the latter and drops the former.
        let is_option = |argument: &String| {
            argument.starts_with("-O") || argument == "--option" || argument.starts_with("--option=")
        };
        if std::env::args().filter(is_option).count() > cli.global.options.len() {
            let message = "-O is given both before and after the command (give all of them on one side)\n";
            command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }
}

/// The parser with its help laid out.
pub fn command() -> clap::Command {
    help::laid_out(Cli::command())
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
        None => Err("no `=` in it (write -O kafka.topic=readings)".to_owned()),
    }
}

/// The verbs. Their summaries and groups are in [`help::GROUPS`].
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(commands::demo::DemoArgs),
    Up(commands::up::UpArgs),
    Down(commands::down::DownArgs),
    #[command(subcommand)]
    Schema(commands::schema::SchemaCommand),
    Simulate(commands::simulate::SimulateArgs),
    Ingest(commands::ingest::IngestArgs),
    #[command(subcommand)]
    Bridge(commands::bridge::BridgeCommand),
    Import(commands::import::ImportArgs),
    #[command(subcommand)]
    Mapping(commands::mapping::MappingCommand),
    #[command(subcommand)]
    DeadLetters(commands::dead_letters::DeadLettersCommand),
    Monitor(commands::monitor::MonitorArgs),
    Query(commands::query::QueryArgs),
    Sql(commands::sql::SqlArgs),
    Extremes(commands::extremes::ExtremesArgs),
    Stats(commands::stats::StatsArgs),
    Anomalies(commands::anomalies::AnomaliesArgs),
    Forecast(commands::forecast::ForecastArgs),
    Sensors(commands::sensors::SensorsArgs),
    Silent(commands::silent::SilentArgs),
    Alerts(commands::alerts::AlertsArgs),
    Dashboard(commands::dashboard::DashboardArgs),
    Serve(commands::serve::ServeArgs),
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    Report(commands::report::ReportArgs),
    Export(commands::export::ExportArgs),
    #[command(subcommand)]
    Batch(commands::batch::BatchCommand),
    Status(commands::status::StatusArgs),
    Doctor(commands::doctor::DoctorArgs),
    Top(commands::top::TopArgs),
    Audit(commands::audit::AuditArgs),
    #[command(subcommand)]
    Offsets(commands::offsets::OffsetsCommand),
    Rollup(commands::rollup::RollupArgs),
    Purge(commands::purge::PurgeArgs),
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    Healthcheck(commands::healthcheck::HealthcheckArgs),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    Completions(commands::completions::CompletionsArgs),
    #[command(hide = true)]
    Man(commands::man::ManArgs),
    #[command(hide = true)]
    Reference(commands::reference::ReferenceArgs),
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
        let (mut cli, mut found) = (command(), Vec::new());
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
            .filter(|(_, command)| !command.has_subcommands())
            .filter(|(_, command)| {
                !command.get_after_help().is_some_and(|text| text.to_string().contains("Examples:"))
            })
            .map(|(path, _)| path)
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }
}
