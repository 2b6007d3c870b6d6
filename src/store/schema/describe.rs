//! schema.cql as the reference shows it: tables with their columns, and the prose that stands before and in them.

use super::definition::{Definition, Object, Order, Shape};
use super::{Error, Settings, source};

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    /// The comment before the statement, as one paragraph.
    pub about: String,
    /// The table that a view is made from.
    pub base: Option<String>,
    /// As CQL writes it.
    pub primary_key: String,
    /// Seconds.
    pub time_to_live: Option<String>,
    /// In the order of the file.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The type as CQL writes it.
    pub kind: String,
    /// Its part of the primary key; empty for others.
    pub role: &'static str,
    /// The comment before it.
    pub about: String,
}

/// The tables and views in the order of the file.
pub fn objects(settings: &Settings) -> Result<Vec<Described>, Error> {
    let text = source::filled(settings)?;
    let definitions = source::definitions(settings)?;
    let shape_of = |table: &str| {
        definitions.iter().find_map(|definition| match &definition.object {
            Object::Table(name, shape) if name == table => Some(shape),
            _ => None,
        })
    };
    let described = definitions.iter().filter_map(|definition| {
        let (name, shape, base) = match &definition.object {
            Object::Keyspace => return None,
            Object::Table(name, shape) => (name, shape, None),
            Object::View(name, view) => (name, &view.shape, Some(view.base.clone())),
        };
        let typed = base.as_deref().and_then(shape_of).unwrap_or(shape);
        Some(Described {
            name: name.clone(),
            about: comment_before(&text, &definition.cql),
            primary_key: shape.primary_key(),
            time_to_live: shape.ttl.clone(),
            columns: columns(definition, shape, typed),
            base,
        })
    });
    Ok(described.collect())
}

/// The comment lines that stand directly before `statement` in `text`.
fn comment_before(text: &str, statement: &str) -> String {
    let before = text.find(statement).map_or("", |at| &text[..at]);
    let mut lines: Vec<&str> =
        before.lines().rev().take_while(|line| line.starts_with("--")).map(|line| line[2..].trim()).collect();
    lines.reverse();
    lines.join(" ")
}

fn columns(definition: &Definition, shape: &Shape, typed: &Shape) -> Vec<Column> {
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in definition.cql.lines().map(str::trim).take_while(|line| !line.starts_with("PRIMARY KEY")) {
        if let Some(text) = line.strip_prefix("--") {
            comment.push(text.trim());
            continue;
        }
        // A table has a column a line, a view all of them in one.
        let names =
            line.trim_start_matches("SELECT ").split(", ").map(|part| part.split(' ').next().unwrap_or(""));
        for name in names {
            if let Some(kind) = typed.columns.get(name)
                && !found.iter().any(|column: &Column| column.name == name)
            {
                let about = comment.join(" ");
                found.push(Column {
                    name: name.to_owned(),
                    kind: kind.clone(),
                    role: role(shape, name),
                    about,
                });
            }
        }
        comment.clear();
    }
    found
}

fn role(shape: &Shape, column: &str) -> &'static str {
    if shape.partition_key.iter().any(|name| name == column) {
        return "partition";
    }
    match shape.clustering.iter().find(|(name, _)| name == column) {
        Some((_, Order::Ascending)) => "clustering",
        Some((_, Order::Descending)) => "clustering, descending",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_column_of_every_table_is_described() {
        for object in objects(&Settings::new(&Config::default())).unwrap() {
            assert!(object.about.ends_with('.'), "{}: {:?}", object.name, object.about);
            let keys = object.columns.iter().filter(|column| !column.role.is_empty()).count();
            assert_eq!(keys, object.primary_key.split(", ").count(), "{object:?}");
        }
        let all = objects(&Settings::new(&Config::default())).unwrap();
        let rollups = all.iter().find(|object| object.name == "iot_rollups").unwrap();
        assert_eq!(rollups.columns.len(), 18);
        let squares = rollups.columns.iter().find(|column| column.name == "squares").unwrap();
        assert_eq!(squares.about, "The sum of the squared deviations from the mean.");
        let view = all.iter().find(|object| object.name == "iot_sensors_by_id").unwrap();
        assert_eq!(view.columns[0].kind, "uuid");
    }
}
