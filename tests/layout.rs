//! The import rule of src/lib.rs: a room imports only rooms that stand before it in the list under `# Layout`, and a
//! verb imports no other verb.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An import of a room by another: the file and its line, and both rooms.
#[derive(Debug)]
struct Import {
    place: String,
    from: String,
    to: String,
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms in the order of the list.
fn rooms(front_page: &str) -> Vec<String> {
    let layout =
        front_page.split("# Layout").nth(1).and_then(|rest| rest.split("# Invariants").next()).unwrap();
    let mut rooms = Vec::new();
    for line in layout.lines().filter(|line| line.starts_with("//! - ")) {
        rooms.extend(line.split("[`").skip(1).map(|rest| rest.split('`').next().unwrap().to_owned()));
    }
    rooms
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of a file with its tests and comments blanked out, lines kept.
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    without_tests
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names that follow `prefix` in the code, each with its line: `crate::store::groups` and `crate::{store, time}`.
fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + prefix.len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            // The first name of each branch, at the depth of the braces.
            let (mut depth, mut name, mut first) = (0, String::new(), true);
            for char in tree.chars() {
                match char {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => first = true,
                    _ if depth == 0 && first && (char.is_alphanumeric() || char == '_') => name.push(char),
                    _ if depth == 0 && !name.is_empty() => {
                        found.push((line, std::mem::take(&mut name)));
                        first = false;
                    }
                    _ => {}
                }
                if char == ',' && !name.is_empty() {
                    found.push((line, std::mem::take(&mut name)));
                }
            }
            if !name.is_empty() {
                found.push((line, name));
            }
        } else {
            let name: String =
                rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
            found.push((line, name));
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(sources()).unwrap();
    inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn imports(path: &Path, text: &str) -> Vec<Import> {
    let from = room_of(path);
    names_after(&code(text), "crate::")
        .into_iter()
        .filter(|(_, to)| *to != from)
        .map(|(line, to)| Import { place: format!("{}:{line}", path.display()), from: from.clone(), to })
        .collect()
}

/// What is wrong with an import; `None` where it goes down.
fn broken(import: &Import, rooms: &[String]) -> Option<String> {
    let rank = |room: &str| rooms.iter().position(|known| known == room);
    match (rank(&import.from), rank(&import.to)) {
        (Some(from), Some(to)) if to < from => None,
        // One room in two places: the command line is made of the verbs' flags, and the demo runs verbs by it.
        _ if import.from == "commands" && import.to == "cli" => None,
        _ => Some(format!("{}: {} may not import {}", import.place, import.from, import.to)),
    }
}

#[test]
fn every_room_is_in_the_list_and_imports_only_rooms_before_it() {
    let front_page = std::fs::read_to_string(sources().join("lib.rs")).unwrap();
    let rooms = rooms(&front_page);
    let declared: Vec<_> = front_page.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert!(declared.len() > 20, "{declared:?}");
    for room in declared {
        let room = room.trim_end_matches(';');
        assert!(rooms.iter().any(|known| known == room), "{room} is missing in the list of src/lib.rs");
    }
    let mut upward = Vec::new();
    let mut count = 0;
    for path in files(&sources()) {
        if ["lib", "main"].contains(&room_of(&path).as_str()) || path.ends_with("tests.rs") {
            continue;
        }
        let found = imports(&path, &std::fs::read_to_string(&path).unwrap());
        count += found.len();
        upward.extend(found.iter().filter_map(|import| broken(import, &rooms)));
    }
    assert!(count > 500, "only {count} imports were found");
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn a_line_that_breaks_the_rule_is_found() {
    let rooms = ["reading", "store", "commands"].map(str::to_owned);
    let found = |text: &str| -> Vec<String> {
        let imports = imports(&sources().join("store/groups.rs"), text);
        imports.iter().filter_map(|import| broken(import, &rooms)).collect()
    };
    assert!(found("use crate::reading::Group;\nuse super::writes;\n").is_empty());
    assert!(found("use crate::{reading::{Group, commands}, store};").is_empty());
    assert_eq!(found("// crate::commands\nuse crate::commands;").len(), 1);
    assert_eq!(found("use crate::{reading, commands::query};").len(), 1);
    assert_eq!(found("fn f() { let _ = crate::commands::run(); }").len(), 1);
    assert_eq!(found("use crate::unlisted;").len(), 1);
    assert!(found("#[cfg(test)]\nmod tests {\n    use crate::commands;\n}").is_empty());
}

/// The string literals of the code, each with its line. Escapes and line continuations stand as they are written.
fn literals(text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut line, mut at) = (Vec::new(), 1, 0);
    let starts =
        |at: usize, prefix: &str| prefix.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "'\"'") {
            at += 3;
        } else if starts(at, "'\\\"'") {
            at += 4;
        } else if starts(at, "r#\"") || chars[at] == '"' {
            let is_raw = chars[at] == 'r';
            at += if is_raw { 3 } else { 1 };
            let (first_line, mut literal) = (line, String::new());
            while at < chars.len() && !(if is_raw { starts(at, "\"#") } else { chars[at] == '"' }) {
                if !is_raw && chars[at] == '\\' {
                    literal.push(chars[at]);
                    at += 1;
                }
                line += usize::from(chars[at] == '\n');
                literal.push(chars[at]);
                at += 1;
            }
            at += if is_raw { 2 } else { 1 };
            found.push((first_line, literal));
        } else {
            line += usize::from(chars[at] == '\n');
            at += 1;
        }
    }
    found
}

/// Whether a literal is (the beginning of) a CQL statement. Prose and remedies that name a keyword are none.
fn is_cql(literal: &str) -> bool {
    // Keywords that follow each other, with anything in between.
    let statements: [&[&str]; 9] = [
        &["SELECT ", " FROM "],
        &["INSERT INTO ", "VALUES"],
        &["UPDATE ", " SET "],
        &["DELETE FROM "],
        &["CREATE TABLE "],
        &["CREATE KEYSPACE "],
        &["ALTER TABLE "],
        &["ALTER KEYSPACE ", "replication = "],
        &["TRUNCATE "],
    ];
    statements.iter().any(|words| {
        let mut rest = literal;
        words.iter().all(|word| match rest.split_once(word) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

/// Where statements are SQL over our tables, not CQL.
fn asks_in_sql(path: &Path) -> bool {
    let inside = path.strip_prefix(sources()).unwrap();
    ["commands/sql", "commands/sql.rs", "commands/serve.rs", "sql/server"]
        .iter()
        .any(|verb| inside.starts_with(verb))
}

#[test]
fn only_the_driver_and_the_store_hold_cql() {
    let (mut outside, mut inside) = (Vec::new(), 0);
    for path in files(&sources()) {
        let room = room_of(&path);
        for (line, literal) in literals(&std::fs::read_to_string(&path).unwrap()) {
            match is_cql(&literal) {
                true if ["cassandra", "store"].contains(&room.as_str()) => inside += 1,
                true if asks_in_sql(&path) => {}
                true => outside.push(format!("{}:{line}: {literal}", path.display())),
                false => {}
            }
        }
    }
    assert!(inside > 30, "only {inside} statements were found where they belong");
    assert!(outside.is_empty(), "CQL outside of cassandra/ and store/:\n{}", outside.join("\n"));
}

#[test]
fn a_statement_in_a_literal_is_found_and_prose_is_not() {
    let found = |text: &str| -> Vec<usize> {
        literals(text).into_iter().filter(|(_, literal)| is_cql(literal)).map(|(line, _)| line).collect()
    };
    assert_eq!(found("\n\nlet cql = \"SELECT a \\\n   FROM b\";\n"), [3]);
    assert_eq!(found("const A: char = '\"';\nf(\"DELETE FROM {keyspace}.t\");"), [2]);
    assert_eq!(found("f(r#\"INSERT INTO t (\"a\") VALUES (?)\"#);"), [1]);
    assert_eq!(found("f(\"ALTER KEYSPACE k WITH replication = {{}}\");"), [1]);
    assert!(found("// \"SELECT a FROM b\"\nf(\"(GRANT SELECT ON KEYSPACE k)\");").is_empty());
    assert!(found("f(\"select rows FROM the table\"); // SELECT \n g(\" FROM \")").is_empty());
    assert!(found("#[cfg(test)]\nmod tests {\n f(\"SELECT a FROM b\")}").is_empty());
}

/// Verbs that are made of other verbs.
const COMPOSED: [&str; 2] = ["mod", "demo"];

#[test]
fn a_verb_imports_no_other_verb() {
    let folder = sources().join("commands");
    let shared = ["flags", "support", "destination", "Context"];
    let mut siblings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(&folder) {
        let verb = path.strip_prefix(&folder).unwrap().components().next().unwrap().as_os_str().to_owned();
        let verb = verb.to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = code(&std::fs::read_to_string(&path).unwrap());
        if COMPOSED.contains(&verb.as_str()) || path.parent() != Some(folder.as_path()) {
            continue;
        }
        let names = names_after(&text, "super::").into_iter().chain(names_after(&text, "crate::commands::"));
        for (line, name) in names {
            if !shared.contains(&name.as_str()) && folder.join(format!("{name}.rs")).exists() {
                siblings.entry(verb.clone()).or_default().push(format!("{name} (line {line})"));
            }
        }
    }
    assert!(siblings.is_empty(), "verbs that import verbs: {siblings:#?}");
}
