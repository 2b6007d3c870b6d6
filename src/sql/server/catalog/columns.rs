//! The columns of the tables of the catalog, as PostgreSQL 16 has them, and rows of them by the names of columns.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

/// A table of the catalog: its name and its columns, each with its type, and `?` where it may be NULL.
pub(super) type Description = (&'static str, &'static str);

pub(super) const PG_CLASS: Description = (
    "pg_class",
    "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid, \
     reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool, \
     relisshared bool, relpersistence char, relkind char, relnatts int2, relchecks int2, relhasrules bool, \
     relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, \
     relreplident char, relispartition bool, relrewrite oid, relfrozenxid int4, relminmxid int4, relacl text[]?, \
     reloptions text[]?, relpartbound text?",
);
pub(super) const PG_ATTRIBUTE: Description = (
    "pg_attribute",
    "attrelid oid, attname name, atttypid oid, attlen int2, attnum int2, attcacheoff int4, atttypmod int4, attndims int2, \
     attbyval bool, attalign char, attstorage char, attcompression char, attnotnull bool, atthasdef bool, \
     atthasmissing bool, attidentity char, attgenerated char, attisdropped bool, attislocal bool, attinhcount int2, \
     attstattarget int2, attcollation oid, attacl text[]?, attoptions text[]?, attfdwoptions text[]?, attmissingval text?",
);
pub(super) const PG_INDEX: Description = (
    "pg_index",
    "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool, \
     indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, \
     indisready bool, indislive bool, indisreplident bool, indkey int2[], indcollation oid[], indclass oid[], \
     indoption int2[], indexprs text?, indpred text?",
);
pub(super) const PG_CONSTRAINT: Description = (
    "pg_constraint",
    "oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, convalidated bool, \
     conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype char, confdeltype char, \
     confmatchtype char, conislocal bool, coninhcount int2, connoinherit bool, conkey int2[]?, confkey int2[]?, \
     conpfeqop oid[]?, conppeqop oid[]?, conffeqop oid[]?, confdelsetcols int2[]?, conexclop oid[]?, conbin text?",
);
pub(super) const PG_COLLATION: Description = (
    "pg_collation",
    "oid oid, collname name, collnamespace oid, collowner oid, collprovider char, collisdeterministic bool, collencoding int4, \
     collcollate text?, collctype text?, colliculocale text?, collicurules text?, collversion text?",
);
pub(super) const PG_NAMESPACE: Description =
    ("pg_namespace", "oid oid, nspname name, nspowner oid, nspacl text[]?");
pub(super) const PG_DATABASE: Description = (
    "pg_database",
    "oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, datallowconn bool, \
     datconnlimit int4, datfrozenxid int4, datminmxid int4, dattablespace oid, datcollate text, datctype text, \
     daticulocale text?, daticurules text?, datcollversion text?, datacl text[]?",
);
pub(super) const PG_DESCRIPTION: Description =
    ("pg_description", "objoid oid, classoid oid, objsubid int4, description text");
pub(super) const PG_ROLES: Description = (
    "pg_roles",
    "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, \
     rolreplication bool, rolconnlimit int4, rolpassword text?, rolvaliduntil text?, rolbypassrls bool, rolconfig text[]?",
);
pub(super) const PG_AUTHID: Description = ("pg_authid", PG_ROLES.1);
pub(super) const PG_USER: Description = (
    "pg_user",
    "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text?, \
     valuntil text?, useconfig text[]?",
);
pub(super) const PG_TABLES: Description = (
    "pg_tables",
    "schemaname name, tablename name, tableowner name, tablespace name?, hasindexes bool, hasrules bool, hastriggers bool, \
     rowsecurity bool",
);
pub(super) const PG_INDEXES: Description =
    ("pg_indexes", "schemaname name, tablename name, indexname name, tablespace name?, indexdef text");
pub(super) const PG_SETTINGS: Description = (
    "pg_settings",
    "name name, setting text, unit text?, category text?, short_desc text?, extra_desc text?, context text?, vartype text?, \
     source text?, min_val text?, max_val text?, enumvals text[]?, boot_val text?, reset_val text?, sourcefile text?, \
     sourceline int4?, pending_restart bool",
);
pub(super) const PG_STAT_USER_TABLES: Description = (
    "pg_stat_user_tables",
    "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8?, idx_tup_fetch int8?, \
     n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_live_tup int8, n_dead_tup int8",
);
/// Tables that are there and have no rows, because nothing of their kind exists here.
pub(super) const EMPTY: [Description; 21] = [
    ("pg_attrdef", "oid oid, adrelid oid, adnum int2, adbin text?"),
    (
        "pg_auth_members",
        "oid oid, roleid oid, member oid, grantor oid, admin_option bool, inherit_option bool, set_option bool",
    ),
    (
        "pg_depend",
        "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype char",
    ),
    ("pg_enum", "oid oid, enumtypid oid, enumsortorder float4, enumlabel name"),
    (
        "pg_extension",
        "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text?, extconfig oid[]?, extcondition text[]?",
    ),
    (
        "pg_foreign_server",
        "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text?, srvversion text?, srvacl text[]?, srvoptions text[]?",
    ),
    ("pg_foreign_table", "ftrelid oid, ftserver oid, ftoptions text[]?"),
    ("pg_inherits", "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool"),
    (
        "pg_matviews",
        "schemaname name, matviewname name, matviewowner name, tablespace name?, hasindexes bool, ispopulated bool, definition text",
    ),
    (
        "pg_partitioned_table",
        "partrelid oid, partstrat char, partnatts int2, partdefid oid, partattrs int2[], partclass oid[], partcollation oid[], partexprs text?",
    ),
    (
        "pg_policies",
        "schemaname name, tablename name, policyname name, permissive text, roles text[]?, cmd text, qual text?, with_check text?",
    ),
    (
        "pg_policy",
        "oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles oid[], polqual text?, polwithcheck text?",
    ),
    (
        "pg_publication",
        "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool",
    ),
    ("pg_publication_namespace", "oid oid, pnpubid oid, pnnspid oid"),
    ("pg_publication_rel", "oid oid, prpubid oid, prrelid oid, prqual text?, prattrs int2[]?"),
    (
        "pg_rewrite",
        "oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool, ev_qual text?, ev_action text?",
    ),
    (
        "pg_sequence",
        "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool",
    ),
    (
        "pg_sequences",
        "schemaname name, sequencename name, sequenceowner name, data_type oid, start_value int8, min_value int8, max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8?",
    ),
    (
        "pg_statistic_ext",
        "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys int2[], stxkind text[], stxexprs text?",
    ),
    (
        "pg_trigger",
        "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled char, tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2, tgattr int2[], tgargs text?, tgqual text?, tgoldtable name?, tgnewtable name?",
    ),
    ("pg_views", "schemaname name, viewname name, viewowner name, definition text"),
];

/// The columns that a description stands for.
pub(super) fn schema(description: Description) -> SchemaRef {
    let fields: Vec<_> = description.1.split(',').filter_map(|column| field(column.trim())).collect();
    Arc::new(Schema::new(fields))
}

fn field(column: &str) -> Option<Field> {
    let (name, of) = column.split_once(' ')?;
    let (of, is_nullable) = of.strip_suffix('?').map_or((of, false), |of| (of, true));
    let data_type = match of.strip_suffix("[]") {
        Some(item) => DataType::List(Arc::new(Field::new_list_field(data_type(item), true))),
        None => data_type(of),
    };
    Some(Field::new(name, data_type, is_nullable))
}

fn data_type(name: &str) -> DataType {
    match name {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "oid" | "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        _ => DataType::Utf8,
    }
}

/// The values of a row that are not the usual ones: no, none, 0 and NULL.
pub(super) type Row = Vec<(&'static str, ScalarValue)>;

pub(super) fn list<T: Into<ScalarValue> + Clone>(values: &[T], item: &DataType) -> ScalarValue {
    let values: Vec<ScalarValue> = values.iter().cloned().map(Into::into).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&values, item))
}

/// A table with these rows.
pub(super) fn table(description: Description, rows: &[Row]) -> Result<Arc<dyn TableProvider>> {
    let schema = schema(description);
    let columns = schema.fields().iter().map(|field| column(field, rows)).collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn column(field: &Field, rows: &[Row]) -> Result<ArrayRef> {
    if rows.is_empty() {
        return Ok(new_empty_array(field.data_type()));
    }
    let usual = match field.is_nullable() {
        true => ScalarValue::try_from(field.data_type())?,
        false => ScalarValue::new_default(field.data_type())?,
    };
    let values = rows.iter().map(|row| {
        let own = row.iter().find(|(name, _)| name == field.name());
        own.map_or_else(|| usual.clone(), |(_, value)| value.clone())
    });
    ScalarValue::iter_to_array(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_type_and_every_value_a_column() {
        let all = [
            PG_CLASS,
            PG_ATTRIBUTE,
            PG_INDEX,
            PG_CONSTRAINT,
            PG_COLLATION,
            PG_NAMESPACE,
            PG_DATABASE,
            PG_DESCRIPTION,
            PG_ROLES,
            PG_AUTHID,
            PG_USER,
            PG_TABLES,
            PG_INDEXES,
            PG_SETTINGS,
            PG_STAT_USER_TABLES,
        ];
        for description in all.into_iter().chain(EMPTY) {
            let schema = schema(description);
            assert_eq!(schema.fields().len(), description.1.split(',').count(), "{}", description.0);
            let types = ["oid", "name", "char", "text", "bool", "int2", "int4", "int8", "float4"];
            for column in description.1.split(',') {
                let of =
                    column.trim().split_once(' ').unwrap().1.trim_end_matches('?').trim_end_matches("[]");
                assert!(types.contains(&of), "{column}");
            }
            table(description, &[]).unwrap();
            table(description, &[Row::new()]).unwrap();
        }
    }
}
