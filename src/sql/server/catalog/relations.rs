//! The relations that clients see: our tables with the indexes of their keys, and the tables of the catalog itself. Their OIDs are
//! the same in every session, because clients keep them.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, SchemaRef};

use crate::sql::tables::Kind;

pub(super) const PG_CATALOG: i32 = 11;
pub(super) const PUBLIC: i32 = 2200;
pub(super) const INFORMATION_SCHEMA: i32 = 13_000;
pub(super) const NAMESPACES: [(i32, &str); 3] =
    [(PG_CATALOG, "pg_catalog"), (PUBLIC, "public"), (INFORMATION_SCHEMA, "information_schema")];
/// Access methods: of tables and of indexes.
pub(super) const HEAP: i32 = 2;
pub(super) const BTREE: i32 = 403;
/// The OID of the first table of ours; each has ten for itself.
const FIRST: i32 = 16_400;
const FIRST_OF_SYSTEM: i32 = 12_000;
/// OIDs of PostgreSQL's own, by which comments and dependencies name the kind of an object.
const WELL_KNOWN: [(&str, i32); 9] = [
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_database", 1262),
    ("pg_constraint", 2606),
    ("pg_description", 2609),
    ("pg_index", 2610),
    ("pg_namespace", 2615),
];

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) data_type: DataType,
    pub(super) is_nullable: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) namespace: i32,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) key: Option<Key>,
    pub(super) description: Option<&'static str>,
}

/// The primary key of a table of ours, and its index.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) index: i32,
    pub(super) constraint: i32,
    pub(super) name: String,
    /// Numbers of the columns, from 1.
    pub(super) columns: Vec<i16>,
}

impl Relation {
    pub(super) fn of_ours(kind: Kind, place: usize, schema: &SchemaRef) -> Self {
        let oid = FIRST + 10 * i32::try_from(place).unwrap_or_default();
        let columns = columns(schema);
        let number = |name: &&str| {
            let index = columns.iter().position(|column| column.name == *name)?;
            i16::try_from(index + 1).ok()
        };
        let key = kind.key().map(|names| Key {
            index: oid + 1,
            constraint: oid + 2,
            name: format!("{}_pkey", kind.name()),
            columns: names.iter().filter_map(number).collect(),
        });
        let name = kind.name().to_owned();
        Self { oid, namespace: PUBLIC, name, columns, key, description: Some(kind.description()) }
    }

    /// A table of the catalog or of the information schema.
    pub(super) fn of_system(namespace: i32, name: &str, place: usize, schema: &SchemaRef) -> Self {
        let known = WELL_KNOWN.iter().find(|(known, _)| *known == name && namespace == PG_CATALOG);
        let oid =
            known.map_or_else(|| FIRST_OF_SYSTEM + i32::try_from(place).unwrap_or_default(), |(_, oid)| *oid);
        Self { oid, namespace, name: name.to_owned(), columns: columns(schema), key: None, description: None }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.namespace == PUBLIC
    }

    pub(super) fn schema_name(&self) -> &'static str {
        NAMESPACES.iter().find(|(oid, _)| *oid == self.namespace).map_or("public", |(_, name)| *name)
    }

    /// The names of the columns of its key.
    pub(super) fn key_names<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a str> {
        key.columns.iter().filter_map(move |number| {
            let index = usize::try_from(*number).ok()?.checked_sub(1)?;
            self.columns.get(index).map(|column| column.name.as_str())
        })
    }
}

fn columns(schema: &SchemaRef) -> Vec<Column> {
    let column = |field: &datafusion::arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        is_nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

/// All relations of a session.
#[derive(Debug, Default)]
pub(super) struct Relations {
    pub(super) all: Vec<Relation>,
    /// Names of relations and indexes by their OIDs.
    names: BTreeMap<i32, String>,
}

impl Relations {
    pub(super) fn new(all: Vec<Relation>) -> Self {
        let mut names = BTreeMap::new();
        for relation in &all {
            // A name that is not in the search path is shown with its schema.
            let shown = match relation.namespace {
                INFORMATION_SCHEMA => format!("information_schema.{}", relation.name),
                _ => relation.name.clone(),
            };
            names.insert(relation.oid, shown);
            if let Some(key) = &relation.key {
                names.insert(key.index, key.name.clone());
            }
        }
        Self { all, names }
    }

    pub(super) fn ours(&self) -> impl Iterator<Item = &Relation> {
        self.all.iter().filter(|relation| relation.is_ours())
    }

    /// Our tables with a key.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Relation, &Key)> {
        self.all.iter().filter_map(|relation| Some((relation, relation.key.as_ref()?)))
    }

    pub(super) fn name(&self, oid: i32) -> Option<&str> {
        self.names.get(&oid).map(String::as_str)
    }

    /// Whether a relation or an index is found by its name without a schema. `None` where there is none.
    pub(super) fn is_visible(&self, oid: i32) -> Option<bool> {
        self.names.contains_key(&oid).then(|| {
            !self.all.iter().any(|relation| relation.oid == oid && relation.namespace == INFORMATION_SCHEMA)
        })
    }

    /// The OID of a relation by its name, with or without its schema, as `to_regclass` reads it.
    pub(super) fn oid(&self, name: &str) -> Option<i32> {
        if let Ok(number) = name.trim().parse() {
            return Some(number);
        }
        let parts = parts(name)?;
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema), name),
            _ => return None,
        };
        let is_there = |relation: &&Relation| match schema {
            Some(schema) => relation.schema_name() == schema,
            None => relation.namespace != INFORMATION_SCHEMA,
        };
        self.all.iter().filter(is_there).find_map(|relation| match &relation.key {
            _ if relation.name == *name => Some(relation.oid),
            Some(key) if key.name == *name => Some(key.index),
            _ => None,
        })
    }

    pub(super) fn index_definition(&self, index: i32, column: i64) -> Option<String> {
        let (relation, key) = self.keys().find(|(_, key)| key.index == index)?;
        if column > 0 {
            let place = usize::try_from(column - 1).ok()?;
            return relation.key_names(key).nth(place).map(quoted);
        }
        let names: Vec<_> = relation.key_names(key).map(quoted).collect();
        Some(format!(
            "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({})",
            quoted(&key.name),
            relation.schema_name(),
            quoted(&relation.name),
            names.join(", ")
        ))
    }

    pub(super) fn constraint_definition(&self, constraint: i32) -> Option<String> {
        let (relation, key) = self.keys().find(|(_, key)| key.constraint == constraint)?;
        let names: Vec<_> = relation.key_names(key).map(quoted).collect();
        Some(format!("PRIMARY KEY ({})", names.join(", ")))
    }
}

/// A name as it is written in a statement.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|part| part.is_ascii_lowercase() || part.is_ascii_digit() || part == '_');
    match is_plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// The parts of a name with points, each in lower case unless it is quoted.
fn parts(name: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = name.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (quoted[..end].to_owned(), &quoted[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_lowercase(), &rest[end..])
            }
        };
        found.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn relations() -> Relations {
        let field = |name: &str| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(vec![field("Other"), field("location"), field("device_type")]));
        let class = Relation::of_system(PG_CATALOG, "pg_class", 3, &schema);
        let tables = Relation::of_system(INFORMATION_SCHEMA, "tables", 4, &schema);
        Relations::new(vec![Relation::of_ours(Kind::Groups, 3, &schema), class, tables])
    }

    #[test]
    fn keys_are_described_as_postgresql_does() {
        let relations = relations();
        let key = relations.all[0].key.clone().unwrap();
        assert_eq!(key.columns, [2, 3]);
        assert_eq!(
            relations.index_definition(key.index, 0).unwrap(),
            "CREATE UNIQUE INDEX groups_pkey ON public.groups USING btree (location, device_type)"
        );
        assert_eq!(relations.index_definition(key.index, 2).as_deref(), Some("device_type"));
        assert_eq!(relations.index_definition(key.index, 3), None);
        assert_eq!(
            relations.constraint_definition(key.constraint).as_deref(),
            Some("PRIMARY KEY (location, device_type)")
        );
        assert_eq!(relations.constraint_definition(1), None);
    }

    #[test]
    fn names_find_their_oids_and_oids_their_names() {
        let relations = relations();
        let groups = relations.all[0].oid;
        for name in ["groups", "GROUPS", "public.groups", "\"public\".\"groups\"", " groups "] {
            assert_eq!(relations.oid(name), Some(groups), "{name}");
        }
        assert_eq!(relations.oid("groups_pkey"), Some(groups + 1));
        assert_eq!(relations.oid("pg_catalog.pg_class"), Some(1259));
        assert_eq!(relations.oid("1259"), Some(1259));
        for name in ["\"GROUPS\"", "pg_catalog.groups", "a.b.c", "\"groups", "", "nothing"] {
            assert_eq!(relations.oid(name), None, "{name}");
        }
        assert_eq!(relations.name(groups), Some("groups"));
        assert_eq!(relations.name(1), None);
    }

    #[test]
    fn tables_of_the_information_schema_need_its_name() {
        let relations = relations();
        let seen: Vec<_> = relations.all.iter().map(|relation| relations.is_visible(relation.oid)).collect();
        assert_eq!(seen, [Some(true), Some(true), Some(false)]);
        assert_eq!(relations.is_visible(relations.all[0].oid + 1), Some(true), "an index");
        assert_eq!(relations.is_visible(1), None);
        assert_eq!(relations.oid("tables"), None);
        assert_eq!(relations.oid("information_schema.tables"), Some(relations.all[2].oid));
    }
}
