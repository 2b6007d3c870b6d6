//! The catalog that PostgreSQL's clients ask: pg_catalog and the information schema. What is about our tables, their columns, keys
//! and indexes is ours; types, functions and operators are those of datafusion-pg-catalog.
//!
//! - [`relations`]: the relations and their OIDs. [`types`]: the types of their columns.
//! - [`columns`]: the columns of the tables of the catalog. [`tables`], [`standard`]: their rows.
//! - [`functions`]: functions about objects of the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::prelude::{SessionContext, ident, lit};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;

use super::booleans::Booleans;
use crate::sql::context::{CATALOG, SCHEMA};
use crate::sql::tables::Kind;

mod columns;
mod functions;
mod relations;
mod standard;
mod tables;
#[cfg(test)]
mod tests;
mod types;

use relations::{INFORMATION_SCHEMA, PG_CATALOG, Relation, Relations};

/// Gives a session, which has its tables, the catalog.
pub(super) async fn install(context: &SessionContext, user: &str) -> Result<()> {
    setup_pg_catalog(context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
    let catalog = context.catalog(CATALOG).ok_or_else(|| missing("the catalog"))?;
    let theirs = catalog.schema("pg_catalog").ok_or_else(|| missing("pg_catalog"))?;
    let public = catalog.schema(SCHEMA).ok_or_else(|| missing("the tables"))?;
    let mut all = Vec::new();
    for (place, kind) in Kind::ALL.into_iter().enumerate() {
        let table = public.table(kind.name()).await?.ok_or_else(|| missing(kind.name()))?;
        all.push(Relation::of_ours(kind, place, &table.schema()));
    }
    let mut system = BTreeMap::new();
    let mut with_lists = Tables::new();
    for name in theirs.table_names() {
        if let Some(table) = theirs.table(&name).await? {
            let table = match with_lists_of_rights(context, table.clone())? {
                Some(changed) => with_lists.entry(name.clone()).or_insert(changed).clone(),
                None => table,
            };
            system.insert(name, table.schema());
        }
    }
    // Ours have the columns that theirs lack. Without relations they have no rows, and the columns that they will have.
    for (name, table) in tables::all(&Relations::default(), user)? {
        system.insert(name.to_owned(), table.schema());
    }
    let names = |name: &str| name.to_owned();
    let of_system = system.into_iter().map(|(name, schema)| (PG_CATALOG, name, schema));
    let of_standard =
        standard::schemas().into_iter().map(|(name, schema)| (INFORMATION_SCHEMA, names(name), schema));
    for (place, (namespace, name, schema)) in of_system.chain(of_standard).enumerate() {
        all.push(Relation::of_system(namespace, &name, place, &schema));
    }
    let relations = Arc::new(Relations::new(all));
    let mut ours = with_lists;
    ours.extend(by_name(tables::all(&relations, user)?));
    catalog.register_schema("pg_catalog", Arc::new(Schema { ours, rest: Some(theirs) }))?;
    let ours = by_name(standard::all(&relations, user)?);
    // DataFusion's own, with its names of types, would come first.
    context.state_ref().write().config_mut().options_mut().catalog.information_schema = false;
    catalog.register_schema("information_schema", Arc::new(Schema { ours, rest: None }))?;
    functions::register(context, &relations, user);
    context.state_ref().write().register_expr_planner(Arc::new(Booleans))
}

/// A table in which columns of rights, which have no values here, are lists of texts, as functions of arrays expect them.
/// `None` where there are no such columns.
fn with_lists_of_rights(
    context: &SessionContext,
    table: Arc<dyn TableProvider>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let schema = table.schema();
    let is_rights =
        |field: &Field| field.name().ends_with("acl") && !matches!(field.data_type(), DataType::List(_));
    if !schema.fields().iter().any(|field| is_rights(field)) {
        return Ok(None);
    }
    let none = ScalarValue::try_from(&DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))?;
    let columns = schema.fields().iter().map(|field| match is_rights(field) {
        true => lit(none.clone()).alias(field.name()),
        false => ident(field.name()),
    });
    Ok(Some(context.read_table(table)?.select(columns.collect::<Vec<_>>())?.into_view()))
}

fn missing(what: &str) -> DataFusionError {
    DataFusionError::Internal(format!("{what} is missing in the session"))
}

type Tables = BTreeMap<String, Arc<dyn TableProvider>>;

fn by_name(tables: Vec<(&'static str, Arc<dyn TableProvider>)>) -> Tables {
    tables.into_iter().map(|(name, table)| (name.to_owned(), table)).collect()
}

/// Tables of ours, before those of another provider.
#[derive(Debug)]
struct Schema {
    ours: Tables,
    rest: Option<Arc<dyn SchemaProvider>>,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.ours.keys().cloned().collect();
        names.extend(self.rest.iter().flat_map(|rest| rest.table_names()));
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match (self.ours.get(name), &self.rest) {
            (Some(table), _) => Ok(Some(table.clone())),
            (None, Some(rest)) => rest.table(name).await,
            (None, None) => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.ours.contains_key(name) || self.rest.as_ref().is_some_and(|rest| rest.table_exist(name))
    }
}
