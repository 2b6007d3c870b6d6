//! What `--help` and `-h` show: verbs grouped by task, global options in one line, and the version.

use std::fmt::Write as _;

use clap::builder::{Resettable, Styles};
use clap::{Arg, Command};

/// Verbs by task, each with its summary. The one list of them: a test compares it with the parser.
pub const GROUPS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Start",
        &[
            ("demo", "Run the whole platform once, from servers to answers"),
            ("up", "Start Cassandra and Kafka on this machine"),
            ("down", "Stop the servers that `up` started"),
            ("schema", "Apply, show or check the tables and topics"),
        ],
    ),
    (
        "Pipeline",
        &[
            ("simulate", "Send readings of a simulated fleet, or recorded ones"),
            ("ingest", "Store readings from Kafka in Cassandra without loss"),
            ("bridge", "Bring messages from an MQTT broker into Kafka"),
            ("import", "Load historical readings from files"),
            ("mapping", "Map messages of other formats to readings, and try it"),
            ("dead-letters", "List, show, export or replay messages not stored"),
            ("monitor", "Export lag and node health for Prometheus"),
        ],
    ),
    (
        "Ask",
        &[
            ("query", "Show readings of a group or a sensor"),
            ("sql", "Ask in SQL (builds with the feature sql)"),
            ("extremes", "Rank sensors by their highest or lowest value"),
            ("stats", "Compute averages, deviations and percentiles"),
            ("anomalies", "Find values unlike the others"),
            ("forecast", "Predict a metric, with an interval"),
            ("sensors", "List sensors or groups with their last reading"),
            ("silent", "List sensors that have stopped sending"),
            ("alerts", "List the alerts of `ingest --detect`, and deliver them"),
            ("dashboard", "Serve the fleet as a page in a browser"),
            ("serve", "Serve PostgreSQL's clients (feature sql)"),
            ("token", "Add, list or remove tokens for HTTP listeners"),
            ("report", "Write one page about a range of time, for a meeting"),
            ("export", "Write readings to Parquet, CSV or NDJSON files"),
            ("batch", "List and run Spark jobs over the readings"),
        ],
    ),
    (
        "Look after",
        &[
            ("status", "Show servers, schema, lag and disk on one screen"),
            ("doctor", "Check the installation and say how to fix it"),
            ("top", "Show rates, lag and nodes live"),
            ("audit", "Check that no reading is missing"),
            ("offsets", "Show or reset what ingest has committed"),
            ("rollup", "Compute or verify hourly and daily rollups"),
            ("purge", "Delete a location's readings older than a given time"),
            ("node", "List, add, replace or decommission Cassandra nodes"),
            ("healthcheck", "Check that an ingest or a monitor is healthy"),
        ],
    ),
    (
        "Configure",
        &[
            ("config", "Show the configuration, or write a commented file"),
            ("completions", "Print the completion script of a shell"),
        ],
    ),
];

const NEXT: &str = "\
Start here: iotctl demo. Flags and examples: iotctl VERB -h. More: iotctl --help";
const MORE: &str = "\
Start here:  iotctl demo
Then:        iotctl query --location plant-1 --device-type thermostat --last 1h

Exit codes: 0 ok, 1 failed, 2 usage, 3 `ingest` would fail again at the same messages, 130 interrupted.
Results go to stdout, progress and errors to stderr.";

/// The version with the commit and the features that this binary was built with.
pub fn version() -> &'static str {
    static VERSION: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let features: Vec<&str> = [
            ("prophet", cfg!(feature = "prophet")),
            ("sql", cfg!(feature = "sql")),
            ("vendored-openssl", cfg!(feature = "vendored-openssl")),
        ]
        .into_iter()
        .filter_map(|(name, is_on)| is_on.then_some(name))
        .collect();
        version_with(env!("CARGO_PKG_VERSION"), option_env!("BUILD_COMMIT").unwrap_or_default(), &features)
    });
    &VERSION
}

fn version_with(number: &str, commit: &str, features: &[&str]) -> String {
    let features = match features {
        [] => String::new(),
        _ => format!("features: {}", features.join(" ")),
    };
    let parts: Vec<&str> = [commit, &features].into_iter().filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => number.to_owned(),
        _ => format!("{number} ({})", parts.join(", ")),
    }
}

/// Lays out the help of the program and of every verb.
pub fn laid_out(program: Command) -> Command {
    let global: Vec<Arg> = program.get_arguments().cloned().collect();
    let line = global_line(&global);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{{after-help}}",
        list(program.get_styles())
    );
    let mut program = program
        .version(version())
        .help_template(template)
        .after_help(format!("{line}\n{NEXT}"))
        .after_long_help(format!("Global options:\n{}\n\n{MORE}", options(&global)))
        .mut_args(|arg| arg.hide_short_help(true));
    for (verb, summary) in GROUPS.iter().flat_map(|(_, verbs)| *verbs) {
        program =
            program.mut_subcommand(verb, |command| with_global_line(summarised(command, summary), &line));
    }
    program
}

/// `Global: --config --keyspace …`, in 80 columns.
fn global_line(global: &[Arg]) -> String {
    let names = global.iter().filter_map(|arg| match arg.get_short() {
        Some(short) => Some(format!("-{short}")),
        None => arg.get_long().map(|long| format!("--{long}")),
    });
    format!("Global: {}", names.collect::<Vec<_>>().join(" "))
}

/// The global options with their help, as clap lays options out.
fn options(global: &[Arg]) -> String {
    let mut holder = Command::new("options")
        .help_template("{options}")
        .version(version())
        .max_term_width(100)
        .args(global.iter().cloned().map(|arg| arg.global(false).hide_short_help(false)));
    holder.render_help().to_string().trim_end().to_owned()
}

/// The first paragraph of a verb's help is its summary; the others are what its code says about it.
fn summarised(command: Command, summary: &'static str) -> Command {
    let more = command.get_long_about().map(ToString::to_string);
    let command = command.about(summary);
    match more.as_deref().and_then(|text| text.split_once("\n\n")) {
        Some((_, more)) => command.long_about(format!("{summary}\n\n{more}")),
        None => command.long_about(Resettable::Reset),
    }
}

/// Shows the global options in one line in `-h`, for a verb and for its own subcommands.
fn with_global_line(command: Command, line: &str) -> Command {
    let own = command.get_after_help().map(ToString::to_string);
    let command = match own {
        Some(own) => command.after_help(format!("{own}\n\n{line}")).after_long_help(own),
        None => {
            let more = format!("`iotctl {} COMMAND --help` shows flags and examples.", command.get_name());
            command.after_help(line.to_owned()).after_long_help(more)
        }
    };
    command.mut_subcommands(|inner| with_global_line(inner, line))
}

fn list(styles: &Styles) -> String {
    let heading = styles.get_header();
    let mut list = String::new();
    for (group, verbs) in GROUPS {
        for (index, (verb, summary)) in verbs.iter().enumerate() {
            let shown = if index == 0 { group } else { "" };
            let blanks = " ".repeat(11 - shown.len());
            let shown = if shown.is_empty() { String::new() } else { format!("{heading}{shown}{heading:#}") };
            let _ = writeln!(list, "{shown}{blanks}{verb:<13} {summary}");
        }
    }
    list.truncate(list.trim_end().len());
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    fn width(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn every_verb_is_in_one_group_and_every_entry_is_a_verb() {
        let mut listed: Vec<&str> =
            GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().map(|(verb, _)| *verb)).collect();
        listed.sort_unstable();
        let program = command();
        let mut verbs: Vec<&str> = program
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        verbs.sort_unstable();
        assert_eq!(listed, verbs);
    }

    #[test]
    fn the_short_help_fits_a_screen_and_groups_the_verbs() {
        let help = command().render_help().to_string();
        assert!(help.lines().count() <= 44, "{} lines:\n{help}", help.lines().count());
        assert!(width(&help) <= 80, "{} columns:\n{help}", width(&help));
        for (group, verbs) in GROUPS {
            let line = help.lines().find(|line| line.starts_with(group)).unwrap_or_default();
            assert!(line.contains(verbs[0].0) && line.ends_with(verbs[0].1), "{group}:\n{help}");
        }
        assert_eq!(help.lines().filter(|line| line.contains("--keyspace")).count(), 1, "{help}");
        assert!(help.contains("Global: --config"), "{help}");
    }

    #[test]
    fn the_long_help_explains_every_global_option() {
        let help = command().render_long_help().to_string();
        for text in
            ["Global options:", "--contact-points <HOST:PORT>", "Cassandra keyspace", "--version", "130"]
        {
            assert!(help.contains(text), "no {text:?} in\n{help}");
        }
        assert!(!help.contains("Global: --config"), "{help}");
    }

    #[test]
    fn a_verb_has_global_options_in_one_line_of_the_short_help_and_whole_in_the_long_one() {
        let mut program = command();
        program.build();
        let shown = |path: &[&str], long: bool| {
            let verb = path.iter().fold(&program, |command, name| command.find_subcommand(name).unwrap());
            let mut verb = verb.clone();
            if long { verb.render_long_help().to_string() } else { verb.render_help().to_string() }
        };
        for path in [&["query"][..], &["node", "add"], &["node"], &["schema", "apply"]] {
            let short = shown(path, false);
            assert!(short.contains("\nGlobal: --config") && short.contains("--brokers"), "{path:?}\n{short}");
            assert!(!short.contains("--contact-points <HOST:PORT>"), "{path:?}\n{short}");
            let long = shown(path, true);
            assert!(long.contains("--contact-points <HOST:PORT>"), "{path:?}\n{long}");
            assert!(!long.contains("Global: "), "{path:?}\n{long}");
        }
        assert!(shown(&["query"], false).contains("Examples:"));
        assert!(shown(&["query"], true).contains("Examples:"));
    }

    #[test]
    fn the_long_help_of_a_verb_begins_with_its_summary() {
        let program = command();
        let query = program.find_subcommand("query").unwrap().clone().render_long_help().to_string();
        assert!(query.starts_with("Show readings of a group or a sensor\n\n"), "{query}");
        // Wrapped to the width of a terminal.
        let unwrapped = query.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains("memory does not grow with the result"), "{query}");
    }

    #[test]
    fn a_version_names_what_is_known_of_commit_and_features() {
        assert_eq!(version_with("0.1.0", "abc1234", &["prophet"]), "0.1.0 (abc1234, features: prophet)");
        assert_eq!(version_with("0.1.0", "abc1234", &[]), "0.1.0 (abc1234)");
        assert_eq!(version_with("0.1.0", "", &["prophet"]), "0.1.0 (features: prophet)");
        assert_eq!(version_with("0.1.0", "", &[]), "0.1.0");
        assert!(version().starts_with(env!("CARGO_PKG_VERSION")), "{}", version());
    }
}
