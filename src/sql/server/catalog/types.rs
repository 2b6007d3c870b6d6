//! PostgreSQL's types of the columns of our tables and of the catalog.

use datafusion::arrow::datatypes::DataType;

use super::tables::DEFAULT_COLLATION;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PgType {
    pub(super) oid: i32,
    /// Bytes, or -1 where it varies.
    pub(super) length: i16,
    /// The name in pg_type, and that of the standard.
    pub(super) name: &'static str,
    pub(super) standard: &'static str,
}

impl PgType {
    pub(super) fn is_by_value(self) -> bool {
        self.length > 0
    }

    pub(super) fn alignment(self) -> &'static str {
        match self.length {
            1 => "c",
            2 => "s",
            8 => "d",
            _ => "i",
        }
    }

    pub(super) fn collation(self) -> i32 {
        match self.name {
            "text" | "_text" => DEFAULT_COLLATION,
            _ => 0,
        }
    }
}

/// What clients get of a column of this type.
pub(super) fn of(data_type: &DataType) -> PgType {
    let (oid, length, name, standard) = match data_type {
        DataType::Boolean => (16, 1, "bool", "boolean"),
        DataType::Int8 | DataType::Int16 => (21, 2, "int2", "smallint"),
        DataType::Int32 | DataType::UInt16 => (23, 4, "int4", "integer"),
        DataType::Int64 | DataType::UInt32 => (20, 8, "int8", "bigint"),
        DataType::Float32 => (700, 4, "float4", "real"),
        DataType::Float64 => (701, 8, "float8", "double precision"),
        DataType::Timestamp(_, Some(_)) => (1184, 8, "timestamptz", "timestamp with time zone"),
        DataType::Timestamp(_, None) => (1114, 8, "timestamp", "timestamp without time zone"),
        DataType::Date32 => (1082, 4, "date", "date"),
        DataType::List(item) => match item.data_type() {
            DataType::Int16 => (1005, -1, "_int2", "ARRAY"),
            DataType::Int32 => (1007, -1, "_int4", "ARRAY"),
            DataType::Int64 => (1016, -1, "_int8", "ARRAY"),
            _ => (1009, -1, "_text", "ARRAY"),
        },
        _ => (25, -1, "text", "text"),
    };
    PgType { oid, length, name, standard }
}
