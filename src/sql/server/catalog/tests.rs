//! What clients ask about keys, on a session with empty tables.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{
    CatalogProvider, MemTable, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::*;
use crate::sql::context::session_config;
use crate::sql::server::functions;
use crate::sql::server::rewrite::{catalog::simplified, rewritten};
use crate::sql::tables::moment;

async fn session() -> SessionContext {
    session_with(|_| {}).await
}

/// With more functions, which are registered before the catalog is there.
async fn session_with(register: impl Fn(&SessionContext)) -> SessionContext {
    let context = SessionContext::new_with_config(session_config());
    register(&context);
    let tables = MemorySchemaProvider::new();
    for kind in Kind::ALL {
        let names = kind.key().unwrap_or(&["name"]).iter();
        let mut fields: Vec<_> = names
            .map(|name| match Some(*name) == kind.time_column() {
                true => Field::new(*name, moment(), false),
                false => Field::new(*name, DataType::Utf8, false),
            })
            .collect();
        fields.insert(0, Field::new("value", DataType::Float64, true));
        let table = MemTable::try_new(Arc::new(ArrowSchema::new(fields)), vec![vec![]]).unwrap();
        tables.register_table(kind.name().to_owned(), Arc::new(table)).unwrap();
    }
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(tables)).unwrap();
    context.register_catalog(CATALOG, Arc::new(catalog));
    install(&context, "me").await.unwrap();
    functions::register(&context, "me");
    context
}

/// The rows of a statement as a client sends it, as text.
async fn ask(context: &SessionContext, sql: &str) -> Vec<String> {
    answer(context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn answer(context: &SessionContext, sql: &str) -> Result<Vec<String>> {
    let statements = PostgresCompatibilityParser::new().parse(&rewritten(sql)).unwrap();
    let statement = simplified(&statements[0]).unwrap_or_else(|| statements[0].clone());
    let frame = context.sql(&statement.to_string()).await?;
    let mut lines = Vec::new();
    for batch in frame.collect().await? {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(&**column, &options))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            lines.push(
                columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"),
            );
        }
    }
    Ok(lines)
}

#[tokio::test]
async fn keys_are_found_as_drivers_ask_for_them() {
    let context = session().await;
    // pgjdbc
    let found = ask(
        &context,
        "SELECT result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME FROM (SELECT n.nspname AS TABLE_SCHEM, a.attname AS \
         COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, \
         information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN \
         pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN \
         pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true \
         AND n.nspname = 'public' AND ct.relname = 'groups' AND i.indisprimary) result WHERE result.A_ATTNUM = (result.KEYS).x \
         ORDER BY result.KEY_SEQ",
    )
    .await;
    assert_eq!(found, ["location|1|groups_pkey", "device_type|2|groups_pkey"]);
    // SQLAlchemy
    let found = ask(
        &context,
        "SELECT attr.conrelid::regclass, array_agg(CAST(attr.attname AS TEXT) ORDER BY attr.ord) AS cols, attr.conname FROM \
         (SELECT con.conrelid AS conrelid, con.conname AS conname, con.ord AS ord, pg_catalog.pg_attribute.attname AS attname \
         FROM pg_catalog.pg_attribute JOIN (SELECT pg_catalog.pg_constraint.conrelid AS conrelid, \
         pg_catalog.pg_constraint.conname AS conname, unnest(pg_catalog.pg_constraint.conkey) AS attnum, \
         generate_subscripts(pg_catalog.pg_constraint.conkey, 1) AS ord FROM pg_catalog.pg_constraint WHERE \
         pg_catalog.pg_constraint.contype = 'p') AS con ON pg_catalog.pg_attribute.attnum = con.attnum AND \
         pg_catalog.pg_attribute.attrelid = con.conrelid) AS attr WHERE attr.conrelid = 'public.latest'::regclass GROUP BY \
         attr.conrelid, attr.conname ORDER BY attr.conrelid, attr.conname",
    )
    .await;
    assert_eq!(found, ["latest|[location, device_type, iot_sensor_id]|latest_pkey"]);
    // psql
    let found = ask(
        &context,
        "SELECT c2.relname, i.indisprimary, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), \
         pg_catalog.pg_get_constraintdef(con.oid, true), contype FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, \
         pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid \
         AND contype IN ('p','u','x')) WHERE c.relname = 'groups' AND c.oid = i.indrelid AND i.indexrelid = c2.oid",
    )
    .await;
    assert_eq!(
        found,
        [
            "groups_pkey|true|CREATE UNIQUE INDEX groups_pkey ON public.groups USING btree (location, device_type)|\
          PRIMARY KEY (location, device_type)|p"
        ]
    );
}

#[tokio::test]
async fn the_information_schema_has_types_and_keys() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT column_name, ordinal_position, is_nullable, data_type, udt_name FROM information_schema.columns WHERE \
         table_name = 'hourly' ORDER BY ordinal_position LIMIT 4",
    )
    .await;
    assert_eq!(
        found,
        [
            "value|1|YES|double precision|float8",
            "location|2|NO|text|text",
            "device_type|3|NO|text|text",
            "hour|4|NO|timestamp with time zone|timestamptz"
        ]
    );
    let found = ask(
        &context,
        "SELECT k.column_name FROM information_schema.table_constraints c JOIN information_schema.key_column_usage k USING \
         (constraint_name) WHERE c.constraint_type = 'PRIMARY KEY' AND c.table_name = 'sensors' ORDER BY k.ordinal_position",
    )
    .await;
    assert_eq!(found, ["location", "device_type", "iot_sensor_id"]);
}

#[tokio::test]
async fn only_our_tables_and_the_catalog_are_visible_without_a_schema() {
    let context = session().await;
    // SQLAlchemy
    let found = ask(
        &context,
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON \
         pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = \
         ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND \
         pg_catalog.pg_namespace.nspname != 'pg_catalog' ORDER BY 1",
    )
    .await;
    let mut ours: Vec<_> = Kind::ALL.into_iter().map(Kind::name).collect();
    ours.sort_unstable();
    assert_eq!(found, ours);
}

#[tokio::test]
async fn relations_have_their_names_comments_and_owners() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT c.relname, c.oid::regclass::text, d.description, pg_get_userbyid(c.relowner), obj_description(c.oid, 'pg_class') \
         FROM pg_class c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass \
         WHERE c.relname = 'latest'",
    )
    .await;
    let comment = Kind::Latest.description();
    assert_eq!(found, [format!("latest|latest|{comment}|me|{comment}")]);
    let found =
        ask(&context, "SELECT count(*) FROM pg_class WHERE relkind = 'i' AND relnamespace = 2200").await;
    assert_eq!(found, ["7"]);
    // The system's own tables are there too, under the OIDs that PostgreSQL gives them.
    let found = ask(
        &context,
        "SELECT 'pg_catalog.pg_class'::regclass::oid, 'information_schema.columns'::regclass::text",
    )
    .await;
    assert_eq!(found, ["1259|information_schema.columns"]);
}

#[tokio::test]
async fn columns_are_found_with_their_defaults_and_collations() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT a.attname, (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE \
         d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, (SELECT c.collname FROM \
         pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND \
         a.attcollation <> t.typcollation) AS attcollation FROM pg_catalog.pg_attribute a WHERE a.attrelid = \
         'groups'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .await;
    assert_eq!(found, ["value|NULL|false|NULL", "location|NULL|true|NULL", "device_type|NULL|true|NULL"]);
}

#[tokio::test]
async fn rights_are_lists_and_settings_are_there() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT count(*) > 0 AS n, count(pg_catalog.array_to_string(p.proacl, E'\n')) AS rights, \
         count(pg_catalog.pg_get_function_sqlbody(p.oid)) AS bodies FROM pg_catalog.pg_proc p WHERE p.proname = 'lower'",
    )
    .await;
    assert_eq!(found, ["true|0|0"]);
    let found = ask(
        &context,
        "SELECT t.typname, pg_catalog.array_to_string(t.typacl, ',') AS rights FROM pg_type t WHERE t.typname = 'text'",
    )
    .await;
    assert_eq!(found, ["text|NULL"]);
    let found =
        ask(&context, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'").await;
    assert_eq!(found, ["32"]);
}

#[tokio::test]
async fn options_and_rights_of_what_has_none_are_empty() {
    let context = session().await;
    // psql's \d+ of a table
    let found = ask(
        &context,
        "SELECT c.relname, pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from \
         pg_catalog.unnest(tc.reloptions) x), ', '), am.amname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON \
         (c.reltoastrelid = tc.oid) LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid) WHERE c.oid = 'latest'::regclass",
    )
    .await;
    assert_eq!(found, ["latest|NULL|heap"]);
    // and its \dp
    let found = ask(
        &context,
        "SELECT c.relname, pg_catalog.array_to_string(ARRAY(SELECT attname || ':' || pg_catalog.array_to_string(attacl, ',') FROM \
         pg_catalog.pg_attribute a WHERE attrelid = c.oid AND attacl IS NOT NULL), ','), pg_catalog.array_to_string(ARRAY(SELECT \
         polname || CASE WHEN polroles <> '{0}' THEN pg_catalog.array_to_string(ARRAY(SELECT rolname FROM pg_catalog.pg_roles \
         WHERE oid = ANY (polroles) ORDER BY 1), ', ') ELSE '' END FROM pg_catalog.pg_policy pol WHERE polrelid = c.oid), ',') \
         FROM pg_catalog.pg_class c WHERE c.relname = 'latest'",
    )
    .await;
    assert_eq!(found, ["latest|NULL|NULL"]);
}

#[tokio::test]
async fn languages_and_collations_are_listed() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT count(*) > 0 AS n FROM pg_catalog.pg_language l LEFT JOIN pg_catalog.pg_description d ON d.classoid = l.tableoid AND \
         d.objoid = l.oid AND d.objsubid = 0",
    )
    .await;
    assert_eq!(found, ["true"]);
    let found = ask(
        &context,
        "SELECT c.collname, c.colliculocale FROM pg_catalog.pg_collation c WHERE c.collencoding IN (-1, \
         pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding()))",
    )
    .await;
    assert_eq!(found, ["default|NULL"]);
    assert_eq!(ask(&context, "SELECT c.tableoid::regclass FROM pg_class c LIMIT 1").await, ["pg_class"]);
}

#[tokio::test]
async fn types_are_told_by_their_functions_and_keys_by_their_first_columns() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT typinput = 'pg_catalog.array_in'::regproc AS is_array, typname FROM pg_catalog.pg_type WHERE typname IN \
         ('text', '_text') ORDER BY 2",
    )
    .await;
    assert_eq!(found, ["true|_text", "false|text"]);
    let found = ask(
        &context,
        "SELECT a.attname FROM pg_class c, pg_attribute a, pg_index i WHERE a.attrelid = c.oid AND c.oid = i.indrelid AND \
         i.indisprimary = 't' AND c.relname = 'groups' AND (i.indkey[0] = a.attnum OR i.indkey[5] = a.attnum)",
    )
    .await;
    assert_eq!(found, ["location"]);
}

#[tokio::test]
async fn tables_in_the_search_path_are_named_without_their_schema() {
    let context = session().await;
    let found = ask(
        &context,
        "SELECT CASE WHEN table_schema IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END FROM \
         generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), \
         array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i, \
         string_to_array(current_setting('search_path'), ',') s) THEN table_name ELSE table_schema || '.' || table_name END AS name \
         FROM information_schema.tables WHERE table_name IN ('latest', 'pg_am') ORDER BY CASE WHEN table_schema IN (SELECT s[1] FROM \
         string_to_array('public', ',') s) THEN 0 ELSE 1 END, 1",
    )
    .await;
    assert_eq!(found, ["latest", "pg_catalog.pg_am"]);
}

/// Its state is built again from its functions, each of which is known by all of its names.
#[tokio::test]
async fn functions_of_ours_stay_when_the_catalog_comes() {
    let context = session_with(crate::sql::functions::register).await;
    for _ in 0..5 {
        let found =
            ask(&context, "SELECT to_char(timestamp '2026-01-02 03:04:05', 'YYYY-MM-DD HH24:MI')").await;
        assert_eq!(found, ["2026-01-02 03:04"]);
    }
    let state = context.state();
    let functions = state.scalar_functions();
    for function in functions.values() {
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            assert_eq!(functions.get(name), Some(function), "{name} of {function:?}");
        }
    }
    assert!(answer(&context, "SELECT list_repeat('x', 1000000000)").await.is_err());
}

#[tokio::test]
async fn null_is_unknown_to_in_among_the_columns() {
    let context = session().await;
    for (list, expected) in [
        ("SELECT 1", ["true|false", "false|true", "NULL|NULL"]),
        ("SELECT 1 UNION ALL SELECT NULL", ["true|false", "NULL|NULL", "NULL|NULL"]),
        ("SELECT NULL", ["NULL|NULL", "NULL|NULL", "NULL|NULL"]),
        ("SELECT 1 WHERE false", ["false|true", "false|true", "false|true"]),
        ("SELECT 1.0", ["true|false", "false|true", "NULL|NULL"]),
    ] {
        let asked =
            format!("SELECT a IN ({list}), a NOT IN ({list}) FROM (VALUES (1), (2), (NULL)) AS t (a)");
        assert_eq!(ask(&context, &asked).await, expected, "{list}");
    }
}
