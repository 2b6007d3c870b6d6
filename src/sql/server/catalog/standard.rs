//! The information schema, with types by their names in PostgreSQL.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use super::columns::{Description, Row, schema, table};
use super::relations::{Key, NAMESPACES, Relation, Relations};
use super::types;
use crate::sql::context::CATALOG;

const SCHEMATA: Description = (
    "schemata",
    "catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name?, \
     default_character_set_schema name?, default_character_set_name name?, sql_path text?",
);
const TABLES: Description = (
    "tables",
    "table_catalog name, table_schema name, table_name name, table_type text, self_referencing_column_name name?, \
     reference_generation text?, user_defined_type_catalog name?, user_defined_type_schema name?, \
     user_defined_type_name name?, is_insertable_into text, is_typed text, commit_action text?",
);
const COLUMNS: Description = (
    "columns",
    "table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4, column_default text?, \
     is_nullable text, data_type text, character_maximum_length int4?, character_octet_length int4?, numeric_precision int4?, \
     numeric_precision_radix int4?, numeric_scale int4?, datetime_precision int4?, interval_type text?, \
     interval_precision int4?, character_set_catalog name?, character_set_schema name?, character_set_name name?, \
     collation_catalog name?, collation_schema name?, collation_name name?, domain_catalog name?, domain_schema name?, \
     domain_name name?, udt_catalog name, udt_schema name, udt_name name, scope_catalog name?, scope_schema name?, \
     scope_name name?, maximum_cardinality int4?, dtd_identifier text, is_self_referencing text, is_identity text, \
     identity_generation text?, identity_start text?, identity_increment text?, identity_maximum text?, \
     identity_minimum text?, identity_cycle text, is_generated text, generation_expression text?, is_updatable text",
);
const TABLE_CONSTRAINTS: Description = (
    "table_constraints",
    "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name, \
     table_name name, constraint_type text, is_deferrable text, initially_deferred text, enforced text, nulls_distinct text?",
);
const KEY_COLUMN_USAGE: Description = (
    "key_column_usage",
    "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name, \
     table_name name, column_name name, ordinal_position int4, position_in_unique_constraint int4?",
);
const CONSTRAINT_COLUMN_USAGE: Description = (
    "constraint_column_usage",
    "table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name, \
     constraint_schema name, constraint_name name",
);
/// Views of what is not there.
const EMPTY: [Description; 6] = [
    (
        "referential_constraints",
        "constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name?, \
         unique_constraint_schema name?, unique_constraint_name name?, match_option text, update_rule text, delete_rule text",
    ),
    (
        "check_constraints",
        "constraint_catalog name, constraint_schema name, constraint_name name, check_clause text",
    ),
    (
        "views",
        "table_catalog name, table_schema name, table_name name, view_definition text?, check_option text, \
         is_updatable text, is_insertable_into text, is_trigger_updatable text, is_trigger_deletable text, \
         is_trigger_insertable_into text",
    ),
    (
        "sequences",
        "sequence_catalog name, sequence_schema name, sequence_name name, data_type text, numeric_precision int4, \
         numeric_precision_radix int4, numeric_scale int4, start_value text, minimum_value text, maximum_value text, \
         increment text, cycle_option text",
    ),
    (
        "triggers",
        "trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation text, event_object_catalog name, \
         event_object_schema name, event_object_table name, action_order int4, action_condition text?, action_statement text, \
         action_orientation text, action_timing text",
    ),
    (
        "element_types",
        "object_catalog name, object_schema name, object_name name, object_type text, collection_type_identifier text, \
         data_type text, udt_catalog name, udt_schema name, udt_name name, dtd_identifier text",
    ),
];

/// The views with their columns, before there are relations to describe.
pub(super) fn schemas() -> Vec<(&'static str, datafusion::arrow::datatypes::SchemaRef)> {
    let filled = [SCHEMATA, TABLES, COLUMNS, TABLE_CONSTRAINTS, KEY_COLUMN_USAGE, CONSTRAINT_COLUMN_USAGE];
    filled.into_iter().chain(EMPTY).map(|description| (description.0, schema(description))).collect()
}

/// All views, by their names.
pub(super) fn all(relations: &Relations, user: &str) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    let keys = || relations.keys();
    let rows: Vec<(Description, Vec<Row>)> = vec![
        (SCHEMATA, schemata(user)),
        (TABLES, relations.all.iter().map(relation).collect()),
        (COLUMNS, relations.all.iter().flat_map(columns).collect()),
        (TABLE_CONSTRAINTS, keys().map(|(relation, key)| constraint(relation, key)).collect()),
        (KEY_COLUMN_USAGE, keys().flat_map(|(relation, key)| key_columns(relation, key)).collect()),
        (CONSTRAINT_COLUMN_USAGE, keys().flat_map(|(relation, key)| key_columns(relation, key)).collect()),
    ];
    let empty = EMPTY.into_iter().map(|description| (description, Vec::new()));
    rows.into_iter()
        .chain(empty)
        .map(|(description, rows)| Ok((description.0, table(description, &rows)?)))
        .collect()
}

fn schemata(user: &str) -> Vec<Row> {
    let row = |(_, name): (i32, &str)| -> Row {
        vec![("catalog_name", CATALOG.into()), ("schema_name", name.into()), ("schema_owner", user.into())]
    };
    NAMESPACES.into_iter().map(row).collect()
}

fn named(relation: &Relation) -> Row {
    vec![
        ("table_catalog", CATALOG.into()),
        ("table_schema", relation.schema_name().into()),
        ("table_name", relation.name.as_str().into()),
    ]
}

fn relation(relation: &Relation) -> Row {
    let mut row = named(relation);
    row.extend([
        ("table_type", "BASE TABLE".into()),
        ("is_insertable_into", "NO".into()),
        ("is_typed", "NO".into()),
    ]);
    row
}

fn columns(relation: &Relation) -> Vec<Row> {
    let of_column = |(index, column): (usize, &super::relations::Column)| {
        let of = types::of(&column.data_type);
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let mut row = named(relation);
        row.extend([
            ("column_name", column.name.as_str().into()),
            ("ordinal_position", number.into()),
            ("is_nullable", yes(column.is_nullable)),
            ("data_type", of.standard.into()),
            ("udt_catalog", CATALOG.into()),
            ("udt_schema", "pg_catalog".into()),
            ("udt_name", of.name.into()),
            ("dtd_identifier", number.to_string().into()),
            ("is_self_referencing", yes(false)),
            ("is_identity", yes(false)),
            ("identity_cycle", yes(false)),
            ("is_generated", "NEVER".into()),
            ("is_updatable", yes(false)),
        ]);
        let precision = match of.name {
            "int2" => Some((16, 2, Some(0))),
            "int4" => Some((32, 2, Some(0))),
            "int8" => Some((64, 2, Some(0))),
            "float4" => Some((24, 2, None)),
            "float8" => Some((53, 2, None)),
            _ => None,
        };
        if let Some((precision, radix, scale)) = precision {
            row.extend([
                ("numeric_precision", precision.into()),
                ("numeric_precision_radix", radix.into()),
                ("numeric_scale", datafusion::scalar::ScalarValue::Int32(scale)),
            ]);
        }
        match of.name {
            "text" => row.push(("character_octet_length", 1_073_741_824.into())),
            // The tables have milliseconds.
            "timestamptz" | "timestamp" => row.push(("datetime_precision", 3.into())),
            _ => {}
        }
        row
    };
    relation.columns.iter().enumerate().map(of_column).collect()
}

fn yes(is_so: bool) -> datafusion::scalar::ScalarValue {
    (if is_so { "YES" } else { "NO" }).into()
}

fn of_constraint(relation: &Relation, key: &Key) -> Row {
    let mut row = named(relation);
    row.extend([
        ("constraint_catalog", CATALOG.into()),
        ("constraint_schema", relation.schema_name().into()),
        ("constraint_name", key.name.as_str().into()),
    ]);
    row
}

fn constraint(relation: &Relation, key: &Key) -> Row {
    let mut row = of_constraint(relation, key);
    row.extend([
        ("constraint_type", "PRIMARY KEY".into()),
        ("is_deferrable", yes(false)),
        ("initially_deferred", yes(false)),
        ("enforced", yes(true)),
    ]);
    row
}

fn key_columns(relation: &Relation, key: &Key) -> Vec<Row> {
    let names = relation.key_names(key).enumerate();
    names
        .map(|(index, name)| {
            let mut row = of_constraint(relation, key);
            let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
            row.extend([("column_name", name.into()), ("ordinal_position", number.into())]);
            row
        })
        .collect()
}
