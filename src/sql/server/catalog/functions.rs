//! Functions about objects of the catalog. They are asked about a few hundred rows, so each row is computed by itself.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::scalar::ScalarStructBuilder;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use super::relations::{Relations, quoted};
use super::tables::UTF8;

type Body = Arc<dyn Fn(&[ScalarValue]) -> ScalarValue + Send + Sync>;

/// A function of any arguments.
struct OfRow {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    body: Body,
}

impl OfRow {
    fn udf(
        name: &'static str,
        returns: DataType,
        body: impl Fn(&[ScalarValue]) -> ScalarValue + Send + Sync + 'static,
    ) -> ScalarUDF {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Stable);
        ScalarUDF::new_from_impl(Self { name, returns, signature, body: Arc::new(body) })
    }
}

impl fmt::Debug for OfRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for OfRow {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for OfRow {}

impl Hash for OfRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for OfRow {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().map(|arg| match arg {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        });
        if let Some(scalars) = scalars.collect::<Option<Vec<_>>>() {
            return Ok(ColumnarValue::Scalar((self.body)(&scalars)));
        }
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(datafusion::arrow::array::new_empty_array(&self.returns)));
        }
        let arrays =
            args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let arguments = arrays
                .iter()
                .map(|array| ScalarValue::try_from_array(array, row))
                .collect::<Result<Vec<_>>>()?;
            values.push((self.body)(&arguments));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
    }
}

fn number(arguments: &[ScalarValue], place: usize) -> Option<i64> {
    match arguments.get(place)?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(number) => number,
        _ => None,
    }
}

fn oid(arguments: &[ScalarValue]) -> Option<i32> {
    number(arguments, 0).and_then(|number| i32::try_from(number).ok())
}

fn text(arguments: &[ScalarValue], place: usize) -> Option<&str> {
    arguments.get(place)?.try_as_str().flatten()
}

/// The numbers of an array's places, from 1. Arrays of the catalog have one dimension.
fn subscripts(arguments: &[ScalarValue]) -> ScalarValue {
    let items = match number(arguments, 1) {
        None | Some(1) => items(arguments),
        Some(_) => Vec::new(),
    };
    let places: Vec<_> = items.into_iter().zip(1_i32..).map(|(_, place)| ScalarValue::from(place)).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&places, &DataType::Int32))
}

fn items(arguments: &[ScalarValue]) -> Vec<ScalarValue> {
    match arguments.first() {
        Some(ScalarValue::List(list)) if list.is_valid(0) => {
            let values = list.value(0);
            (0..values.len()).filter_map(|row| ScalarValue::try_from_array(&values, row).ok()).collect()
        }
        _ => Vec::new(),
    }
}

fn pair() -> Fields {
    Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("n", DataType::Int32, true)])
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// The items of an array with their places.
fn expanded(arguments: &[ScalarValue]) -> ScalarValue {
    let empty = || ScalarValue::try_from(&list_of(DataType::Struct(pair()))).unwrap_or(ScalarValue::Null);
    let pairs = items(arguments).into_iter().zip(1_i32..).map(|(item, place)| {
        let item = item.cast_to(&DataType::Int32)?;
        ScalarStructBuilder::new()
            .with_scalar(Field::new("x", DataType::Int32, true), item)
            .with_scalar(Field::new("n", DataType::Int32, true), ScalarValue::from(place))
            .build()
    });
    let Ok(pairs) = pairs.collect::<Result<Vec<_>>>() else { return empty() };
    match ScalarValue::iter_to_array(pairs) {
        Ok(pairs) => SingleRowListArrayBuilder::new(pairs).with_nullable(true).build_list_scalar(),
        Err(_) => empty(),
    }
}

fn texts(value: Option<impl Into<String>>) -> ScalarValue {
    ScalarValue::Utf8(value.map(Into::into))
}

/// `format(pattern, …)` with `%s`, `%I` and `%L`, without places and widths. `None` where the pattern is another.
fn formatted(arguments: &[ScalarValue]) -> Option<String> {
    let mut rest = text(arguments, 0)?;
    let mut values = arguments[1..].iter();
    let mut found = String::new();
    while let Some((before, after)) = rest.split_once('%') {
        found.push_str(before);
        let kind = after.chars().next()?;
        rest = &after[kind.len_utf8()..];
        if kind == '%' {
            found.push('%');
            continue;
        }
        let value = values.next()?;
        let shown = (!value.is_null()).then(|| value.to_string());
        match (kind, shown) {
            ('s', shown) => found.push_str(&shown.unwrap_or_default()),
            ('I', Some(name)) => found.push_str(&quoted(&name)),
            ('L', None) => found.push_str("NULL"),
            ('L', Some(text)) => found.push_str(&format!("'{}'", text.replace('\'', "''"))),
            _ => return None,
        }
    }
    found.push_str(rest);
    Some(found)
}

/// A size for people, as PostgreSQL writes it.
fn pretty(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size.abs() >= 10_240.0 && unit + 1 < units.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{} {}", size.round(), units[unit])
}

pub(super) fn register(context: &SessionContext, relations: &Arc<Relations>, user: &str) {
    let owner = texts(Some(user));
    context.register_udf(OfRow::udf("pg_get_userbyid", DataType::Utf8, move |_| owner.clone()));
    for function in about_relations(relations).into_iter().chain(constants()) {
        context.register_udf(function);
    }
}

fn about_relations(relations: &Arc<Relations>) -> Vec<ScalarUDF> {
    let of = |body: fn(&Relations, &[ScalarValue]) -> ScalarValue| {
        let relations = relations.clone();
        move |arguments: &[ScalarValue]| body(&relations, arguments)
    };
    vec![
        OfRow::udf(
            "pg_get_indexdef",
            DataType::Utf8,
            of(|relations, arguments| {
                let column = number(arguments, 1).unwrap_or_default();
                texts(oid(arguments).and_then(|index| relations.index_definition(index, column)))
            }),
        ),
        OfRow::udf(
            "pg_get_constraintdef",
            DataType::Utf8,
            of(|relations, arguments| {
                texts(oid(arguments).and_then(|oid| relations.constraint_definition(oid)))
            }),
        ),
        OfRow::udf(
            "obj_description",
            DataType::Utf8,
            of(|relations, arguments| {
                let oid = oid(arguments);
                texts(relations.ours().find(|ours| Some(ours.oid) == oid).and_then(|found| found.description))
            }),
        ),
        OfRow::udf(
            "pg_table_is_visible",
            DataType::Boolean,
            of(|relations, arguments| {
                ScalarValue::Boolean(oid(arguments).and_then(|oid| relations.is_visible(oid)))
            }),
        ),
        OfRow::udf(
            "to_regclass",
            DataType::Int32,
            of(|relations, arguments| {
                ScalarValue::Int32(text(arguments, 0).and_then(|name| relations.oid(name)))
            }),
        ),
        // What `oid::regclass::text` becomes.
        OfRow::udf(
            "regclass_name",
            DataType::Utf8,
            of(|relations, arguments| {
                let oid = oid(arguments);
                texts(oid.map(|oid| relations.name(oid).map_or_else(|| oid.to_string(), str::to_owned)))
            }),
        ),
    ]
}

/// Functions whose answer does not depend on a relation.
fn constants() -> Vec<ScalarUDF> {
    let none = |_: &[ScalarValue]| ScalarValue::Utf8(None);
    let yes = |_: &[ScalarValue]| ScalarValue::from(true);
    let mut all = vec![
        OfRow::udf("generate_subscripts_list", list_of(DataType::Int32), subscripts),
        OfRow::udf("expandarray_list", list_of(DataType::Struct(pair())), expanded),
        OfRow::udf("pg_size_pretty", DataType::Utf8, |arguments| texts(number(arguments, 0).map(pretty))),
        OfRow::udf("format", DataType::Utf8, |arguments| texts(formatted(arguments))),
        OfRow::udf("set_config", DataType::Utf8, |arguments| texts(text(arguments, 1))),
        OfRow::udf("pg_char_to_encoding", DataType::Int32, |arguments| {
            let name = text(arguments, 0).map(|name| name.replace('-', "").to_lowercase());
            ScalarValue::from(if name.as_deref() == Some("utf8") { UTF8 } else { -1 })
        }),
        OfRow::udf("pg_client_encoding", DataType::Utf8, |_| "UTF8".into()),
        OfRow::udf("getdatabaseencoding", DataType::Utf8, |_| "UTF8".into()),
        OfRow::udf("pg_is_other_temp_schema", DataType::Boolean, |_| ScalarValue::from(false)),
        OfRow::udf("pg_my_temp_schema", DataType::Int32, |_| ScalarValue::from(0)),
        OfRow::udf("pg_column_is_updatable", DataType::Boolean, |_| ScalarValue::from(false)),
        OfRow::udf("pg_relation_is_updatable", DataType::Int32, |_| ScalarValue::from(0)),
        OfRow::udf("pg_index_column_has_property", DataType::Boolean, |_| ScalarValue::Boolean(None)),
        OfRow::udf("pg_indexam_has_property", DataType::Boolean, |_| ScalarValue::Boolean(None)),
        OfRow::udf("pg_sequence_last_value", DataType::Int64, |_| ScalarValue::Int64(None)),
        OfRow::udf("pg_stat_get_live_tuples", DataType::Int64, |_| ScalarValue::from(0_i64)),
    ];
    for name in
        ["pg_relation_size", "pg_total_relation_size", "pg_table_size", "pg_indexes_size", "pg_database_size"]
    {
        all.push(OfRow::udf(name, DataType::Int64, |_| ScalarValue::from(0_i64)));
    }
    for name in [
        "has_column_privilege",
        "has_function_privilege",
        "has_sequence_privilege",
        "has_type_privilege",
        "pg_has_role",
        "pg_function_is_visible",
        "pg_type_is_visible",
        "pg_collation_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_ts_config_is_visible",
        "pg_statistics_obj_is_visible",
    ] {
        all.push(OfRow::udf(name, DataType::Boolean, yes));
    }
    for name in [
        "col_description",
        "shobj_description",
        "pg_get_viewdef",
        "pg_get_triggerdef",
        "pg_get_ruledef",
        "pg_get_functiondef",
        "pg_get_function_result",
        "pg_get_function_sqlbody",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_serial_sequence",
        "pg_get_statisticsobjdef",
        "pg_get_expr",
        "pg_get_partkeydef",
        "pg_tablespace_location",
    ] {
        all.push(OfRow::udf(name, DataType::Utf8, none));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, expected) in
            [(0, "0 bytes"), (10_239, "10239 bytes"), (10_240, "10 kB"), (104_857_600, "100 MB")]
        {
            assert_eq!(pretty(bytes), expected);
        }
    }

    #[test]
    fn names_and_texts_are_put_into_a_pattern() {
        let of = |pattern: &str, values: &[&str]| {
            let values = values.iter().map(|value| ScalarValue::from(*value));
            formatted(&std::iter::once(ScalarValue::from(pattern)).chain(values).collect::<Vec<_>>())
        };
        assert_eq!(of("%I.%I", &["public", "A b"]).unwrap(), "public.\"A b\"");
        assert_eq!(of("100 %% of %s, %L", &["x", "it's"]).unwrap(), "100 % of x, 'it''s'");
        assert_eq!(of("%s", &[]), None);
        assert_eq!(of("%2$s", &["x"]), None);
    }

    #[test]
    fn arrays_are_expanded_with_their_places() {
        let items = [ScalarValue::from(7_i16), ScalarValue::from(9_i16)];
        let list = ScalarValue::List(ScalarValue::new_list_nullable(&items, &DataType::Int16));
        assert_eq!(subscripts(std::slice::from_ref(&list)).to_string(), "[1, 2]");
        assert_eq!(subscripts(&[list.clone(), ScalarValue::from(2)]).to_string(), "[]");
        let pairs = expanded(&[list]);
        assert_eq!(pairs.data_type(), list_of(DataType::Struct(pair())));
        let texts = pairs.to_string();
        assert!(["7", "9"].iter().all(|item| texts.contains(item)), "{texts}");
        let none = ScalarValue::try_from(&list_of(DataType::Int16)).unwrap();
        assert_eq!(subscripts(std::slice::from_ref(&none)).data_type(), list_of(DataType::Int32));
        assert_eq!(expanded(&[none]).data_type(), list_of(DataType::Struct(pair())));
    }
}
