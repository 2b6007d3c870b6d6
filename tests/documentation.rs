//! Each `iotctl …` line in the code blocks of README.md and docs/ goes through the program's own parser. The examples of
//! `--help` are among them: docs/reference/commands.md has all of them.

use std::path::{Path, PathBuf};

use clap::FromArgMatches as _;
use iotctl::cli::{self, Cli};

/// A command line of a page: the words after `iotctl`.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    line: usize,
    words: Vec<String>,
}

/// Languages of code blocks whose lines are commands; in the others, commands begin with `$ `.
const SHELLS: [&str; 3] = ["bash", "sh", "shell"];
const TRANSCRIPTS: [&str; 3] = ["console", "text", ""];

/// The command lines of a Markdown page.
fn command_lines(page: &str) -> Vec<Documented> {
    let (mut found, mut language, mut open) = (Vec::new(), None::<String>, None::<(usize, String)>);
    for (index, line) in page.lines().enumerate() {
        if let Some(rest) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(rest.trim().to_owned()) };
            continue;
        }
        let Some(language) = &language else { continue };
        let (at, text) = match (open.take(), SHELLS.contains(&language.as_str())) {
            // The line before ended with a backslash.
            (Some((at, text)), _) => (at, text + line.trim()),
            (None, true) => (index + 1, line.to_owned()),
            (None, false) if TRANSCRIPTS.contains(&language.as_str()) => match line.strip_prefix("$ ") {
                Some(command) => (index + 1, command.to_owned()),
                None => continue,
            },
            (None, false) => continue,
        };
        match text.strip_suffix('\\') {
            Some(unfinished) => open = Some((at, unfinished.to_owned())),
            None => {
                let commands = simple_commands(&text).into_iter().filter_map(|text| arguments(&text));
                found.extend(commands.map(|words| Documented { line: at, words }));
            }
        }
    }
    found
}

/// The commands of a line between `|`, `&`, `;`, redirections, parentheses and a comment; quotes are respected.
fn simple_commands(line: &str) -> Vec<String> {
    let (mut commands, mut quote, mut is_target, mut before) = (vec![String::new()], None, false, ' ');
    for char in line.chars() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (None, '\'' | '"') => quote = Some(char),
            (None, '#') if before == ' ' => break,
            (None, '|' | '&' | ';' | '(' | ')') => {
                commands.push(String::new());
                is_target = false;
                before = char;
                continue;
            }
            (None, '>' | '<') => is_target = true,
            _ => {}
        }
        before = char;
        if !is_target {
            commands.last_mut().unwrap().push(char);
        }
    }
    commands
}

/// The arguments where the command is this program, by name, by path or by `cargo run`.
fn arguments(command: &str) -> Option<Vec<String>> {
    // A placeholder is no command line.
    if command.contains('…') {
        return None;
    }
    let words = shlex::split(command)?;
    let is_variable = |word: &String| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|char| char.is_ascii_uppercase() || char == '_'))
    };
    let is_program = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "iotctl");
    let words: Vec<String> = words
        .into_iter()
        .skip_while(|word| {
            is_variable(word) || ["sudo", "do", "time", "nohup", "exec"].contains(&word.as_str())
        })
        .collect();
    let first = words.first()?;
    if is_program(first) {
        return Some(words[1..].to_vec());
    }
    let is_run = first == "cargo" && words.get(1).is_some_and(|word| word == "run");
    let separator = words.iter().position(|word| word == "--").filter(|_| is_run)?;
    Some(words[separator + 1..].to_vec())
}

/// What the parser says against the arguments.
fn refused(words: &[String]) -> Option<String> {
    let line = std::iter::once("iotctl").chain(words.iter().map(String::as_str));
    let parsed = cli::command().try_get_matches_from(line).and_then(|found| Cli::from_arg_matches(&found));
    match parsed {
        Ok(_) => None,
        Err(error) if error.exit_code() == 0 => None,
        Err(error) => Some(error.to_string()),
    }
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_documented_command_line_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut count, mut wrong) = (0, Vec::new());
    for page in
        [vec![root.join("README.md"), root.join("CONTRIBUTING.md")], pages(&root.join("docs"))].concat()
    {
        for Documented { line, words } in command_lines(&std::fs::read_to_string(&page).unwrap()) {
            count += 1;
            if let Some(error) = refused(&words) {
                let page = page.strip_prefix(root).unwrap().display();
                wrong.push(format!("{page}:{line}: iotctl {}\n  {}", words.join(" "), error.trim()));
            }
        }
    }
    assert!(count > 150, "only {count} command lines were found");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The code blocks of a page in a language, each with its line.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open) = (Vec::new(), None::<(usize, String)>);
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(rest)) => {
                // Line 0 marks a block in another language.
                let at = if rest.trim() == language { index + 1 } else { 0 };
                open = Some((at, String::new()));
            }
            (Some(_), Some(_)) => found.extend(open.take().filter(|(at, _)| *at > 0)),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_documented_mapping_is_valid() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in pages(&docs) {
        let page = std::fs::read_to_string(&path).unwrap();
        for (line, text) in blocks(&page, "toml") {
            if !text.contains("[[source]]") {
                continue;
            }
            checked += 1;
            let place = format!("{}:{line}", path.display());
            if let Err(error) = iotctl::mapping::Mapping::parse(&place, &text) {
                wrong.push(error.to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 2, "only {checked} mappings were found");
}

/// The names of metrics in a text: `iotctl_` and what follows, without the suffixes of a histogram.
fn metric_names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("iotctl_") {
        let name: String =
            text[at..].chars().take_while(|char| char.is_ascii_lowercase() || *char == '_').collect();
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        // What ends with `_` is a prefix (`iotctl_ingest_…`), what stands before `:` a recording rule. Volumes and
        // databases have shorter names.
        let is_rule = text[at + name.len()..].starts_with(':');
        if !name.ends_with('_') && !is_rule && name.matches('_').count() > 1 {
            found.push(stem.unwrap_or(&name).to_owned());
        }
    }
    found
}

fn files_with(extensions: &[&str], folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(extensions, &path));
        } else if path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_metric_that_is_named_anywhere_is_exported() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = std::fs::read_to_string(root.join("docs/reference/metrics.md")).unwrap();
    // The reference is that of the default build, which lacks `serve`.
    let of_serve = std::fs::read_to_string(root.join("src/sql/server/metrics.rs")).unwrap();
    let exported = [metric_names(&reference), metric_names(&of_serve)].concat();
    let mut unknown = Vec::new();
    let places =
        [files_with(&["md"], &root.join("docs")), files_with(&["json", "yml"], &root.join("monitoring"))];
    for path in places.concat() {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in metric_names(&text).into_iter().filter(|name| !exported.contains(name)) {
            unknown.push(format!("{}: {name}", path.display()));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn a_command_line_that_does_not_parse_is_found() {
    let page = "Text: `iotctl nonsense`\n```console\n$ iotctl config init --to /etc/x | cat\n$ iotctl status # iotctl nothing\n\
                not a command: iotctl nonsense\n$ FOO=1 cargo run --release -- demmo\n```\n```bash\niotctl query \\\n  --no-such 'a | b'\n\
                tools/setup && ./target/debug/iotctl up --nodes 3 > 'iotctl x' 2>&1\n```\n```toml\niotctl = 1\n```\n";
    let found = command_lines(page);
    let lines: Vec<_> = found.iter().map(|found| (found.line, found.words.join(" "))).collect();
    let expected = [
        (3, "config init --to /etc/x"),
        (4, "status"),
        (6, "demmo"),
        (9, "query --no-such a | b"),
        (11, "up --nodes 3"),
    ];
    assert_eq!(lines, expected.map(|(line, words)| (line, words.to_owned())));
    let is_refused: Vec<bool> = found.iter().map(|found| refused(&found.words).is_some()).collect();
    assert_eq!(is_refused, [true, false, true, true, false]);
}
