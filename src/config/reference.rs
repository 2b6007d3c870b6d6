//! The reference page of all settings, `docs/reference/configuration.md`, made from their declarations.

use std::fmt::Write as _;

use super::keys::{OTHER_VARIABLES, SECTIONS};
use super::section::Key;
use super::settings::Settings;
use super::value::Kind;

const HEADER: &str = "\
# Configuration

<!-- Generated from src/config/ by `IOTCTL_BLESS=1 cargo test reference`; a test compares it with the program. -->

`iotctl` reads its settings from four sources. A later source overrides an earlier one:

1. the defaults below
2. a TOML file: `--config FILE`, else `$IOTCTL_CONFIG`, else `./iotctl.toml`, else `iotctl/iotctl.toml` in the user's
   config folder (`~/.config` on Linux)
3. environment variables: `IOTCTL_SECTION_KEY`
4. flags: `-O section.key=VALUE`, or a flag of the command such as `--topic`

`iotctl config show` prints the settings in force and the source of each. `iotctl config init` writes a commented file.

| type | in the file | in a variable or flag |
|---|---|---|
| text, path, choice, address | `\"text\"`; the case, `-` and `_` of a choice do not matter | `text` |
| whole number | `64` | `64` |
| true or false | `true` | `true` |
| duration | `\"500ms\"`, `\"1h 30m\"`, `\"90d\"` | `1h 30m` |
| size | `\"64KiB\"`, `\"1MiB\"`, `\"4GiB\"` | `64KiB` |
| list | `[\"a\", \"b\"]` | `a,b` |
| map | `{ a = 1, b = 2 }` | `a=1,b=2`; one entry: `-O section.key.a=1` |
| secret | `\"text\"`; never printed | variables only: flags are visible to every user |

An empty text unsets a setting without a default. Relative paths in the file are relative to the folder of the file.
An unknown key or variable is an error.
";

/// The whole page.
pub fn reference() -> String {
    let defaults = Settings::defaults().into_effective();
    let default_of = |key: &Key| defaults.iter().find(|setting| setting.key == key.name)?.value.as_ref();
    let mut page = HEADER.to_owned();
    for section in SECTIONS {
        let _ = write!(page, "\n## [{}]\n\n{}\n\n", section.name, section.about);
        page.push_str("| key | type | default | allowed | meaning | variable |\n|---|---|---|---|---|---|\n");
        for key in section.keys {
            let name = match key.split() {
                (_, "") => "*device type*",
                (_, name) => name,
            };
            let default = default_of(key).map_or_else(String::new, |value| format!("`{value}`"));
            let cells = [
                name,
                type_of(&key.kind),
                &default,
                &allowed(&key.kind),
                key.about,
                &format!("`{}`", key.variable()),
            ];
            let cells = cells.map(|cell| match cell {
                "" => " ".to_owned(),
                cell => format!(" {} ", cell.replace('|', "\\|")),
            });
            let _ = writeln!(page, "|{}|", cells.join("|"));
        }
    }
    page.push_str("\n## Other variables\n\n| variable | meaning |\n|---|---|\n");
    for (variable, meaning) in OTHER_VARIABLES {
        let _ = writeln!(page, "| `{variable}` | {meaning} |");
    }
    page
}

fn type_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Path => "path",
        Kind::Secret => "secret",
        Kind::List => "list",
        Kind::Map(_) => "map",
        Kind::Property => "text or number",
        Kind::Boolean => "true or false",
        Kind::Whole { .. } => "whole number",
        Kind::Duration { .. } => "duration",
        Kind::Size { .. } => "size",
        Kind::Choice(_) => "choice",
        Kind::Address => "IPv4 address",
    }
}

/// The bounds or choices, if there are any.
fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Map(within) => allowed(within),
        Kind::Choice(choices) => choices.join(", "),
        _ => kind.bounds().map_or_else(String::new, |(min, max)| format!("{min} to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `IOTCTL_BLESS=1 cargo test reference` writes the page.
    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/configuration.md");
        if std::env::var_os("IOTCTL_BLESS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "{path} is out of date (IOTCTL_BLESS=1 cargo test reference writes it)");
    }

    #[test]
    fn the_page_has_a_row_with_default_bounds_and_variable_for_each_setting() {
        let page = reference();
        for key in crate::config::keys::all() {
            assert_eq!(page.matches(&format!("`{}` |\n", key.variable())).count(), 1, "{}", key.name);
        }
        let row = "| batch_rows | whole number | `64` | 1 to 1000 | Rows at which a batch (rows of one partition) is \
                   written... | `IOTCTL_INGEST_BATCH_ROWS` |\n";
        assert!(page.contains(row), "{page}");
    }
}
