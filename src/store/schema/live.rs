//! What a keyspace holds now, read from system_schema.

use std::collections::BTreeMap;

use super::definition::{Order, Shape, View};
use super::{Replication, lexer};
use crate::cassandra::values::quoted;
use crate::cassandra::{Error, Row, Session};

/// A keyspace as the cluster has it.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// `None` where there is no such keyspace.
    pub replication: Option<Replication>,
    pub tables: BTreeMap<String, Shape>,
    pub views: BTreeMap<String, View>,
}

pub(super) async fn read(session: &Session, keyspace: &str) -> Result<Live, Error> {
    let of_keyspace = format!("WHERE keyspace_name = {}", quoted(keyspace));
    let select =
        |columns: &str, table: &str| format!("SELECT {columns} FROM system_schema.{table} {of_keyspace}");

    let rows = session.query(&select("replication", "keyspaces")).await?;
    let Some(row) = rows.first() else { return Ok(Live::default()) };
    let replication = Some(Replication::from_options(&row.get(0)?));

    let rows = session.query(&select("table_name, default_time_to_live, compaction", "tables")).await?;
    let mut tables = BTreeMap::new();
    for row in rows.iter() {
        let shape =
            Shape { ttl: Some(row.get::<i32>(1)?.to_string()), compaction: row.get(2)?, ..Shape::default() };
        tables.insert(row.get::<String>(0)?, shape);
    }

    let rows = session.query(&select("view_name, base_table_name, where_clause", "views")).await?;
    let mut views = BTreeMap::new();
    for row in rows.iter() {
        let view = View { base: row.get(1)?, condition: one_spaced(row.get(2)?), shape: Shape::default() };
        views.insert(row.get::<String>(0)?, view);
    }

    let columns = "table_name, column_name, type, kind, position, clustering_order";
    let rows = session.query(&select(columns, "columns")).await?;
    let mut columns = rows.iter().map(Column::read).collect::<Result<Vec<_>, _>>()?;
    columns.sort_by_key(|column| column.position);
    for column in columns {
        let shape = match tables.get_mut(&column.table) {
            Some(shape) => Some(shape),
            None => views.get_mut(&column.table).map(|view| &mut view.shape),
        };
        if let Some(shape) = shape {
            column.join(shape);
        }
    }
    Ok(Live { replication, tables, views })
}

/// A row of system_schema.columns.
struct Column {
    table: String,
    name: String,
    cql_type: String,
    kind: String,
    position: i32,
    order: Order,
}

impl Column {
    fn read(row: Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            table: row.get(0)?,
            name: row.get(1)?,
            cql_type: row.get(2)?,
            kind: row.get(3)?,
            position: row.get(4)?,
            order: match row.get::<&str>(5)? {
                "desc" => Order::Descending,
                _ => Order::Ascending,
            },
        })
    }

    /// Adds the column to `shape`; columns of a key come in the order of their position.
    fn join(self, shape: &mut Shape) {
        match self.kind.as_str() {
            "partition_key" => shape.partition_key.push(self.name.clone()),
            "clustering" => shape.clustering.push((self.name.clone(), self.order)),
            _ => {}
        }
        let cql_type = match self.kind.as_str() {
            "static" => format!("{} static", self.cql_type),
            _ => self.cql_type,
        };
        shape.columns.insert(self.name, cql_type);
    }
}

/// The tokens of a condition with one space between them, as [`super::definition::parse`] gives them.
fn one_spaced(condition: &str) -> String {
    match lexer::tokens(condition) {
        Ok(tokens) => tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" "),
        Err(_) => condition.to_owned(),
    }
}
