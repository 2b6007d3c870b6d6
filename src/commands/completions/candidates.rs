//! Values of flags that a shell can complete: from this program's own lists, from the configuration, and from Cassandra.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory, FromArgMatches};
use clap_complete::CompletionCandidate;
use clap_complete::engine::ArgValueCompleter;

use crate::analytics::{Column, metric_names};
use crate::cassandra::Session;
use crate::cli::{Cli, GlobalArgs};
use crate::commands::destination;
use crate::config::{Loaded, Sources};
use crate::output::text::visible;
use crate::reading::{Group, Metric, Rejection};
use crate::simulation::signals::DEVICE_TYPES;
use crate::store::groups;
use crate::store::sensors::{self, Detail};
use crate::time::Zone;
use crate::transfer::spark::JOBS;

/// How long a person waits for a completion. What is not known by then is left out.
const DEADLINE: Duration = Duration::from_secs(1);

/// The command with values attached to its flags, by their names.
pub(super) fn attached(command: Command) -> Command {
    let is_job = command.get_name() == "run";
    command
        .mut_args(|arg| match arg.get_id().as_str() {
            "name" if is_job => with(arg, || JOBS.iter().map(|job| job.name.to_owned()).collect()),
            _ => complete(arg),
        })
        .mut_subcommands(attached)
}

fn complete(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "location" => with(arg, || names_of_groups(|group| &group.location)),
        "device_type" => with(arg, || names_of_groups(|group| &group.device_type)),
        "sensor" => with(arg, names_of_sensors),
        "metric" => with(arg, metrics),
        "columns" => with(arg, columns),
        "device_types" => with(arg, || DEVICE_TYPES.iter().map(|device| device.name.to_owned()).collect()),
        "reason" => with(arg, || Rejection::REASONS.map(str::to_owned).to_vec()),
        "options" => with(arg, settings),
        "time_zone" => with(arg, Zone::names),
        _ => arg,
    }
}

/// `values` are computed only when this flag is being completed.
fn with(arg: Arg, values: fn() -> Vec<String>) -> Arg {
    arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        beginning_with(typed, values()).into_iter().map(CompletionCandidate::new).collect::<Vec<_>>()
    }))
}

fn beginning_with(typed: &str, values: Vec<String>) -> BTreeSet<String> {
    // A shell prints the values: those that would steer the terminal are not offered.
    let is_safe = |value: &String| matches!(visible(value), Cow::Borrowed(_));
    values.into_iter().filter(|value| value.starts_with(typed) && is_safe(value)).collect()
}

fn names_of_groups(name: fn(&Group) -> &String) -> Vec<String> {
    let found = ask(async |session: &Session| groups::groups(session).await);
    found.unwrap_or_default().iter().map(|group| name(group).clone()).collect()
}

/// Names, as far as a second reaches; ids are offered by nobody's memory.
fn names_of_sensors() -> Vec<String> {
    const MOST: usize = 10_000;
    let found = ask(async |session: &Session| {
        let groups: Vec<Arc<Group>> = groups::groups(session).await?.into_iter().map(Arc::new).collect();
        let mut names = Vec::new();
        sensors::each(session, &groups, Detail::Names, |_, registered| {
            if names.len() < MOST {
                names.extend(registered.shown_name().map(str::to_owned));
            }
        })
        .await?;
        Ok(names)
    });
    found.unwrap_or_default()
}

fn metrics() -> Vec<String> {
    Metric::COLUMNS.iter().map(|metric| metric.name().to_owned()).chain(other_metrics()).collect()
}

fn columns() -> Vec<String> {
    Column::ALL.iter().map(|column| column.name().to_owned()).chain(other_metrics()).collect()
}

fn other_metrics() -> Vec<String> {
    let found = ask(async |session: &Session| {
        let groups: Vec<Arc<Group>> = groups::groups(session).await?.into_iter().map(Arc::new).collect();
        metric_names::other_metric_names(session, &groups).await
    });
    found.unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// `section.key=` of every setting, as `-O` takes it.
fn settings() -> Vec<String> {
    let loaded = Loaded::load(&Sources::default());
    let keys = loaded.into_iter().flat_map(|loaded| loaded.effective).map(|setting| setting.key);
    keys.map(|key| format!("{key}=")).collect()
}

/// Asks the Cassandra that the configuration and the flags typed so far name. `None` for every failure: a completion has
/// nowhere to report one.
fn ask<T: Send>(question: impl AsyncFnOnce(&Session) -> Result<T, crate::cassandra::Error>) -> Option<T> {
    let loaded = Loaded::load(&typed_flags().sources()).ok()?;
    let given = loaded.given();
    let mut config = loaded.config;
    destination::resolve(&mut config, &given);
    let runtime = tokio::runtime::Runtime::new().ok()?;
    let answer = runtime.block_on(async {
        let answer = async {
            let session = Session::connect(&config.cassandra).await.ok()?;
            question(&session).await.ok()
        };
        tokio::time::timeout(DEADLINE, answer).await.ok().flatten()
    });
    runtime.shutdown_background();
    answer
}

/// The global flags of the unfinished command line, which a shell hands over after `--`.
fn typed_flags() -> GlobalArgs {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    parsed(words).unwrap_or_default()
}

fn parsed<W: Into<std::ffi::OsString> + Clone>(words: impl IntoIterator<Item = W>) -> Option<GlobalArgs> {
    let lenient = Cli::command().ignore_errors(true).subcommand_required(false).arg_required_else_help(false);
    let matches = lenient.try_get_matches_from(words).ok()?;
    GlobalArgs::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_on_a_command_line_that_is_not_finished() {
        let parsed = |line: &str| parsed(line.split(' ')).unwrap_or_default();
        let flags = parsed("iotctl --contact-points 127.0.0.9:9042 query --location ");
        assert_eq!(flags.contact_points.as_deref(), Some("127.0.0.9:9042"));
        let flags = parsed("iotctl query --keyspace other --location pl");
        assert_eq!(flags.keyspace.as_deref(), Some("other"));
    }

    #[test]
    fn only_what_begins_as_typed_is_offered() {
        let values = ["humidity", "temperature", "humour", "hum\u{1b}[2J"].map(str::to_owned).to_vec();
        assert_eq!(beginning_with("hum", values).into_iter().collect::<Vec<_>>(), ["humidity", "humour"]);
    }

    #[test]
    fn every_flag_with_known_values_exists() {
        fn ids(command: &Command, found: &mut BTreeSet<String>) {
            found.extend(command.get_arguments().map(|arg| arg.get_id().to_string()));
            command.get_subcommands().for_each(|inner| ids(inner, found));
        }
        let mut found = BTreeSet::new();
        ids(&Cli::command(), &mut found);
        let ids = [
            "location",
            "device_type",
            "sensor",
            "metric",
            "columns",
            "device_types",
            "reason",
            "options",
            "time_zone",
            "name",
        ];
        for id in ids {
            assert!(found.contains(id), "{id}");
        }
    }
}
