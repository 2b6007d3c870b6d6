//! The rows of the tables of the catalog.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::columns::{self, Description, Row, list, table};
use super::relations::{BTREE, HEAP, Key, NAMESPACES, PG_CATALOG, PUBLIC, Relation, Relations};
use super::types;
use crate::sql::context::CATALOG;

/// The owner of everything: the user of the session.
pub(super) const OWNER: i32 = 10;
const DATABASE: i32 = 5;
const DEFAULT_TABLESPACE: i32 = 1663;
pub(super) const UTF8: i32 = 6;
/// OIDs of the tables that comments are about.
const CLASS_OF_RELATIONS: i32 = 1259;
/// The collation of all texts.
pub(super) const DEFAULT_COLLATION: i32 = 100;

/// All tables that are ours, by their names.
pub(super) fn all(relations: &Relations, user: &str) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    let rows: Vec<(Description, Vec<Row>)> = vec![
        (columns::PG_CLASS, classes(relations)),
        (columns::PG_ATTRIBUTE, attributes(relations)),
        (columns::PG_INDEX, relations.keys().map(|(relation, key)| index(relation, key)).collect()),
        (columns::PG_CONSTRAINT, relations.keys().map(|(relation, key)| constraint(relation, key)).collect()),
        (columns::PG_COLLATION, vec![collation()]),
        (columns::PG_NAMESPACE, namespaces()),
        (columns::PG_DATABASE, vec![database()]),
        (columns::PG_DESCRIPTION, descriptions(relations)),
        (columns::PG_ROLES, vec![role(user)]),
        (columns::PG_AUTHID, vec![role(user)]),
        (columns::PG_USER, vec![vec![("usename", user.into()), ("usesysid", OWNER.into())]]),
        (columns::PG_TABLES, tables(relations, user)),
        (columns::PG_INDEXES, indexes(relations)),
        (columns::PG_SETTINGS, settings()),
        (columns::PG_STAT_USER_TABLES, statistics(relations)),
    ];
    let empty = columns::EMPTY.into_iter().map(|description| (description, Vec::new()));
    rows.into_iter()
        .chain(empty)
        .map(|(description, rows)| Ok((description.0, table(description, &rows)?)))
        .collect()
}

fn number(count: usize) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

fn classes(relations: &Relations) -> Vec<Row> {
    let tables = relations.all.iter().map(class);
    tables.chain(relations.keys().map(|(_, key)| class_of_index(key))).collect()
}

fn class(relation: &Relation) -> Row {
    let mut row = vec![
        ("oid", relation.oid.into()),
        ("relname", relation.name.as_str().into()),
        ("relnamespace", relation.namespace.into()),
        ("relkind", "r".into()),
        ("relam", HEAP.into()),
        ("relhasindex", relation.key.is_some().into()),
        ("relnatts", number(relation.columns.len()).into()),
    ];
    row.extend(of_any_class(relation.oid));
    row
}

fn class_of_index(key: &Key) -> Row {
    let mut row = vec![
        ("oid", key.index.into()),
        ("relname", key.name.as_str().into()),
        ("relnamespace", PUBLIC.into()),
        ("relkind", "i".into()),
        ("relam", BTREE.into()),
        ("relnatts", number(key.columns.len()).into()),
    ];
    row.extend(of_any_class(key.index));
    row
}

fn of_any_class(oid: i32) -> Row {
    vec![
        ("relowner", OWNER.into()),
        ("relfilenode", oid.into()),
        // Not known, as PostgreSQL says it of a table without statistics.
        ("reltuples", (-1.0_f32).into()),
        ("relpersistence", "p".into()),
        ("relispopulated", true.into()),
        ("relreplident", "d".into()),
    ]
}

fn attributes(relations: &Relations) -> Vec<Row> {
    let of_tables = relations.all.iter().flat_map(|relation| {
        let columns = relation.columns.iter().enumerate();
        columns.map(|(index, column)| {
            attribute(relation.oid, number(index + 1), &column.name, &column.data_type, !column.is_nullable)
        })
    });
    let of_indexes = relations.keys().flat_map(|(relation, key)| {
        let columns = relation.key_names(key).enumerate();
        columns.filter_map(|(index, name)| {
            let column = relation.columns.iter().find(|column| column.name == name)?;
            Some(attribute(key.index, number(index + 1), name, &column.data_type, false))
        })
    });
    of_tables.chain(of_indexes).collect()
}

fn attribute(relation: i32, number: i16, name: &str, data_type: &DataType, is_required: bool) -> Row {
    let of = types::of(data_type);
    vec![
        ("attrelid", relation.into()),
        ("attname", name.into()),
        ("atttypid", of.oid.into()),
        ("attlen", of.length.into()),
        ("attnum", number.into()),
        ("attcacheoff", (-1).into()),
        ("atttypmod", (-1).into()),
        ("attndims", i16::from(matches!(data_type, DataType::List(_))).into()),
        ("attbyval", of.is_by_value().into()),
        ("attalign", of.alignment().into()),
        ("attstorage", (if of.length < 0 { "x" } else { "p" }).into()),
        ("attnotnull", is_required.into()),
        ("attislocal", true.into()),
        ("attstattarget", (-1_i16).into()),
        ("attcollation", of.collation().into()),
    ]
}

fn index(relation: &Relation, key: &Key) -> Row {
    let count = key.columns.len();
    let collations: Vec<i32> = key
        .columns
        .iter()
        .filter_map(|number| relation.columns.get(usize::try_from(*number).ok()?.checked_sub(1)?))
        .map(|column| types::of(&column.data_type).collation())
        .collect();
    vec![
        ("indexrelid", key.index.into()),
        ("indrelid", relation.oid.into()),
        ("indnatts", number(count).into()),
        ("indnkeyatts", number(count).into()),
        ("indisunique", true.into()),
        ("indisprimary", true.into()),
        ("indimmediate", true.into()),
        ("indisvalid", true.into()),
        ("indisready", true.into()),
        ("indislive", true.into()),
        ("indkey", list(&key.columns, &DataType::Int16)),
        ("indcollation", list(&collations, &DataType::Int32)),
        ("indclass", list(&vec![0; count], &DataType::Int32)),
        ("indoption", list(&vec![0_i16; count], &DataType::Int16)),
    ]
}

fn constraint(relation: &Relation, key: &Key) -> Row {
    vec![
        ("oid", key.constraint.into()),
        ("conname", key.name.as_str().into()),
        ("connamespace", PUBLIC.into()),
        ("contype", "p".into()),
        ("convalidated", true.into()),
        ("conrelid", relation.oid.into()),
        ("conindid", key.index.into()),
        ("confupdtype", " ".into()),
        ("confdeltype", " ".into()),
        ("confmatchtype", " ".into()),
        ("conislocal", true.into()),
        ("connoinherit", true.into()),
        ("conkey", list(&key.columns, &DataType::Int16)),
    ]
}

fn collation() -> Row {
    vec![
        ("oid", DEFAULT_COLLATION.into()),
        ("collname", "default".into()),
        ("collnamespace", PG_CATALOG.into()),
        ("collowner", OWNER.into()),
        ("collprovider", "d".into()),
        ("collisdeterministic", true.into()),
        ("collencoding", (-1).into()),
    ]
}

fn namespaces() -> Vec<Row> {
    let row = |(oid, name): (i32, &str)| -> Row {
        vec![("oid", oid.into()), ("nspname", name.into()), ("nspowner", OWNER.into())]
    };
    NAMESPACES.into_iter().map(row).collect()
}

fn database() -> Row {
    vec![
        ("oid", DATABASE.into()),
        ("datname", CATALOG.into()),
        ("datdba", OWNER.into()),
        ("encoding", UTF8.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("dattablespace", DEFAULT_TABLESPACE.into()),
        ("datcollate", "C.UTF-8".into()),
        ("datctype", "C.UTF-8".into()),
    ]
}

fn descriptions(relations: &Relations) -> Vec<Row> {
    let described = relations.ours().filter_map(|relation| Some((relation.oid, relation.description?)));
    described
        .map(|(oid, text)| {
            vec![
                ("objoid", oid.into()),
                ("classoid", CLASS_OF_RELATIONS.into()),
                ("description", text.into()),
            ]
        })
        .collect()
}

fn role(user: &str) -> Row {
    vec![
        ("oid", OWNER.into()),
        ("rolname", user.into()),
        ("rolinherit", true.into()),
        ("rolcanlogin", true.into()),
        ("rolconnlimit", (-1).into()),
        ("rolpassword", "********".into()),
    ]
}

fn tables(relations: &Relations, user: &str) -> Vec<Row> {
    let row = |relation: &Relation| -> Row {
        vec![
            ("schemaname", relation.schema_name().into()),
            ("tablename", relation.name.as_str().into()),
            ("tableowner", user.into()),
            ("hasindexes", relation.key.is_some().into()),
        ]
    };
    relations.all.iter().map(row).collect()
}

fn indexes(relations: &Relations) -> Vec<Row> {
    relations
        .keys()
        .map(|(relation, key)| {
            let definition = relations.index_definition(key.index, 0).unwrap_or_default();
            vec![
                ("schemaname", relation.schema_name().into()),
                ("tablename", relation.name.as_str().into()),
                ("indexname", key.name.as_str().into()),
                ("indexdef", ScalarValue::from(definition)),
            ]
        })
        .collect()
}

fn statistics(relations: &Relations) -> Vec<Row> {
    relations
        .ours()
        .map(|relation| {
            vec![
                ("relid", relation.oid.into()),
                ("schemaname", relation.schema_name().into()),
                ("relname", relation.name.as_str().into()),
            ]
        })
        .collect()
}

/// What drivers read of the server: how texts are written, and how many columns a key can have.
fn settings() -> Vec<Row> {
    let row = |(name, setting): (&'static str, &'static str)| -> Row {
        vec![("name", name.into()), ("setting", setting.into())]
    };
    [("max_index_keys", "32"), ("server_encoding", "UTF8"), ("standard_conforming_strings", "on")]
        .map(row)
        .into()
}
