//! commands.md: every verb in the groups of `--help`, with its flags and examples.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::{GENERATED, table};
use crate::cli::help::GROUPS;

const HEAD: &str = "\
`iotctl VERB --help` shows the same text. The global options, which every command takes, are at the end.";

pub(super) fn page() -> String {
    let mut program = crate::cli::command();
    program.build();
    let mut page = format!("# Commands\n\n{GENERATED}\n\n{HEAD}\n\n");
    page.push_str(&table(
        &["task", "verbs"],
        GROUPS.iter().map(|(group, verbs)| {
            let links: Vec<_> = verbs.iter().map(|(verb, _)| format!("[{verb}](#iotctl-{verb})")).collect();
            vec![(*group).to_owned(), links.join(", ")]
        }),
    ));
    for (group, verbs) in GROUPS {
        let _ = write!(page, "\n## {group}\n");
        for (verb, _) in verbs {
            if let Some(command) = program.find_subcommand(verb) {
                describe(&mut page, "###", &format!("iotctl {verb}"), command);
            }
        }
    }
    page.push_str("\n## Global options\n\n");
    page.push_str(&options(program.get_arguments().filter(|arg| arg.is_global_set())));
    page
}

fn describe(page: &mut String, level: &str, path: &str, command: &Command) {
    let _ = write!(page, "\n{level} {path}\n\n");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(page, "{}\n\n", prose(&about));
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help")
        .collect();
    // One that only groups others has nothing to add.
    if !command.is_subcommand_required_set() {
        let usage = command.clone().render_usage().to_string();
        for line in usage.trim_start_matches("Usage: ").lines() {
            let _ = write!(page, "`{}`\n\n", line.trim());
        }
        if !own.is_empty() {
            page.push_str(&options(own.into_iter()));
            page.push('\n');
        }
        if let Some(examples) = command.get_after_long_help().or(command.get_after_help()) {
            page.push_str(&after(&examples.to_string()));
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set());
    for inner in inner {
        describe(page, "####", &format!("{path} {}", inner.get_name()), inner);
    }
}

/// Paragraphs, whose `<` would otherwise be HTML.
fn prose(text: &str) -> String {
    text.trim().replace('<', "&lt;")
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    table(&["flag", "meaning"], arguments.map(|arg| vec![format!("`{}`", name(arg)), meaning(arg)]))
}

/// `-o, --output <DIR>`, or `<FILE>...`.
fn name(arg: &Arg) -> String {
    let flags: Vec<String> =
        [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))]
            .into_iter()
            .flatten()
            .collect();
    let takes_value =
        !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count);
    let values = arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>"));
    let values = values.collect::<Vec<_>>().join(" ");
    match (flags.is_empty(), takes_value) {
        (true, _) => values,
        (false, false) => flags.join(", "),
        (false, true) => format!("{} {values}", flags.join(", ")),
    }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut meaning = prose(&help).split_whitespace().collect::<Vec<_>>().join(" ");
    let takes_value = arg.get_action().takes_values();
    let values: Vec<String> = match takes_value {
        true => arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect(),
        false => Vec::new(),
    };
    if !values.is_empty() {
        let _ = write!(meaning, ": {}", values.join(", "));
    }
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(meaning, " (default: `{}`)", defaults.join(" "));
    }
    meaning
}

/// The examples as commands, and what follows them as it stands.
fn after(text: &str) -> String {
    let (examples, rest) = match text.strip_prefix("Examples:\n") {
        Some(text) => text.split_once("\n\n").unwrap_or((text, "")),
        None => ("", text),
    };
    let mut shown = String::new();
    if !examples.is_empty() {
        shown.push_str("```console\n");
        let mut is_continued = false;
        for line in examples.lines() {
            let line = line.trim();
            let _ = match (is_continued, line.ends_with(':')) {
                (true, _) => writeln!(shown, "    {line}"),
                (false, true) => writeln!(shown, "# {line}"),
                (false, false) => writeln!(shown, "$ {line}"),
            };
            is_continued = line.ends_with('\\');
        }
        shown.push_str("```\n");
    }
    if !rest.trim().is_empty() {
        let _ = write!(shown, "\n```text\n{}\n```\n", rest.trim());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_with_its_flags_and_examples() {
        let page = page();
        for text in [
            "\n### iotctl query\n\nShow readings of a group or a sensor\n",
            "\n#### iotctl node add\n",
            "`iotctl forecast [OPTIONS] --metric <NAME>`\n\n`iotctl forecast <COMMAND>`\n\n| flag",
            "| `--where <CONDITION>` | ",
            "(default: `desc`)",
            "$ iotctl query --location plant-1",
            "| `--contact-points <HOST:PORT>` | ",
        ] {
            assert!(page.contains(text), "no {text:?}");
        }
        assert!(!page.contains("iotctl reference --output DIR"), "hidden commands are not listed");
    }

    #[test]
    fn examples_are_commands_and_their_titles_comments() {
        let text = "Examples:\n  Two lines:\n    iotctl a \\\n      --b\n  iotctl c   # d\n\nMore: text.";
        assert_eq!(
            after(text),
            "```console\n# Two lines:\n$ iotctl a \\\n    --b\n$ iotctl c   # d\n```\n\n```text\nMore: text.\n```\n"
        );
    }
}
