//! One thin file per verb: parse -> call a noun -> print. No CQL and no rdkafka here.
//!
//! A verb imports no other verb (`tests/layout.rs`): shared flags are in [`flags`], shared steps in [`support`].

use std::collections::BTreeSet;

use crate::cli::{Cli, Command};
use crate::config::{Config, Loaded};
use crate::error::UsageError;
use crate::output::Output;
use crate::shutdown::Shutdown;

pub mod alerts;
pub mod anomalies;
pub mod audit;
pub mod batch;
pub mod bridge;
pub mod completions;
pub mod config;
pub mod dashboard;
pub mod dead_letters;
pub mod demo;
pub mod destination;
pub mod doctor;
pub mod down;
pub mod exit;
pub mod export;
pub mod extremes;
pub mod flags;
pub mod forecast;
pub mod healthcheck;
pub mod import;
pub mod ingest;
pub mod man;
pub mod mapping;
pub mod monitor;
pub mod node;
pub mod offsets;
pub mod purge;
pub mod query;
pub mod recorded;
pub mod reference;
pub mod report;
pub mod rollup;
pub mod schema;
pub mod sensors;
pub mod serve;
pub mod silent;
pub mod simulate;
pub mod sql;
pub mod stats;
pub mod status;
pub mod support;
pub mod token;
pub mod top;
pub mod up;

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    pub config: Config,
    /// The `section.key` of each setting that does not come from the defaults.
    pub given: BTreeSet<String>,
    pub output: Output,
    pub shutdown: Shutdown,
}

/// Runs the command that was asked for.
pub async fn run(mut cli: Cli, output: Output) -> anyhow::Result<()> {
    if let Command::Bridge(_) = cli.command {
        // Its --topic is MQTT's, and reaches the global flag of the same name.
        cli.global.topic = None;
    }
    let sources = cli.global.sources();
    // What needs no server must work while the configuration does not.
    let command = match cli.command {
        Command::Config(command) => return config::run(command, &sources, &output),
        Command::Completions(args) => return completions::run(args, &output),
        Command::Man(args) => return man::run(&args, &output),
        Command::Mapping(command) => return mapping::run(command, &sources, &output).await,
        Command::Reference(args) => return reference::run(&args, &output),
        Command::Token(command) => return token::run(command, &sources, &output),
        command => command,
    };
    let loaded = Loaded::load(&sources).map_err(|error| UsageError::new(error.to_string()))?;
    let given = loaded.given();
    let mut context = Context { config: loaded.config, given, output, shutdown: Shutdown::on_signals()? };
    match &command {
        // They start, end or name their servers themselves, or ask none.
        Command::Demo(_) | Command::Up(_) | Command::Down(_) | Command::Healthcheck(_) => {}
        Command::Schema(schema::SchemaCommand::Show(_)) => {}
        // By the data directory of their flags.
        Command::Status(_) | Command::Doctor(_) | Command::Top(_) => {}
        // These read a file.
        Command::Anomalies(args) if args.command.is_some() => {}
        Command::Forecast(args) if args.command.is_some() => {}
        Command::Purge(_) => destination::choose_for_deletion(&mut context)?,
        _ => destination::choose(&mut context),
    }
    dispatch(command, context).await
}

/// Runs a command in a context that is there already.
async fn dispatch(command: Command, context: Context) -> anyhow::Result<()> {
    match command {
        Command::Config(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Mapping(_)
        | Command::Reference(_)
        | Command::Token(_) => {
            anyhow::bail!("this command runs by itself, not as a step of another command")
        }
        Command::Demo(args) => demo::run(args, context).await,
        Command::Up(args) => up::run(args, context).await,
        Command::Down(args) => down::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Node(command) => node::run(command, context).await,
        Command::Schema(command) => schema::run(command, context).await,
        Command::Simulate(args) => simulate::run(args, context).await,
        Command::Ingest(args) => ingest::run(args, context).await,
        Command::Bridge(command) => bridge::run(command, context).await,
        Command::Forecast(args) => forecast::run(args, context).await,
        Command::Healthcheck(args) => healthcheck::run(args, context).await,
        Command::Monitor(args) => monitor::run(args, context).await,
        Command::Query(args) => query::run(args, context).await,
        Command::Batch(command) => batch::run(command, context).await,
        Command::Import(args) => import::run(args, context).await,
        Command::Sql(args) => sql::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Export(args) => export::run(args, context).await,
        Command::Extremes(args) => extremes::run(args, context).await,
        Command::Dashboard(args) => dashboard::run(args, context).await,
        Command::Report(args) => report::run(args, context).await,
        Command::DeadLetters(command) => dead_letters::run(command, context).await,
        Command::Alerts(args) => alerts::run(args, context).await,
        Command::Anomalies(args) => anomalies::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Offsets(command) => offsets::run(command, context).await,
        Command::Purge(args) => purge::run(args, context).await,
        Command::Rollup(args) => rollup::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Sensors(args) => sensors::run(args, context).await,
        Command::Silent(args) => silent::run(args, context).await,
    }
}
