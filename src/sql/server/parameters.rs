//! Parameters whose type the client names, or which are NULL: what datafusion-postgres makes of them depends on the place where they
//! stand only.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, TimezoneInfo, Value, VisitMut as _, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Portal;
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use uuid::Uuid;

use super::service::Statement;

/// Gives the times and intervals that are added or subtracted the type that the client has named: of `now() - $1`, DataFusion takes
/// the parameter for a time, and reads the bytes of an interval as one.
pub(super) fn typed<'a>(sql: Cow<'a, str>, types: &[Option<Type>]) -> Cow<'a, str> {
    if !types.iter().flatten().any(|given| type_of(given).is_some()) {
        return sql;
    }
    let Ok(mut statements) = Parser::parse_sql(&PostgreSqlDialect {}, &sql) else { return sql };
    let mut casts = Casts { types, are_any: false };
    let _ = statements.visit(&mut casts);
    if !casts.are_any {
        return sql;
    }
    Cow::Owned(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

struct Casts<'a> {
    types: &'a [Option<Type>],
    are_any: bool,
}

impl VisitorMut for Casts<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, right } = expression {
            self.cast(left);
            self.cast(right);
        }
        ControlFlow::Continue(())
    }
}

impl Casts<'_> {
    fn cast(&mut self, operand: &mut Expr) {
        let Expr::Value(value) = &*operand else { return };
        let Value::Placeholder(name) = &value.value else { return };
        let place = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let given = place.and_then(|place| self.types.get(place.checked_sub(1)?)?.as_ref());
        let Some(data_type) = given.and_then(type_of) else { return };
        self.are_any = true;
        *operand = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(operand.clone()),
            data_type,
            array: false,
            format: None,
        };
    }
}

fn type_of(given: &Type) -> Option<DataType> {
    match *given {
        Type::INTERVAL => Some(DataType::Interval { fields: None, precision: None }),
        Type::TIMESTAMPTZ => Some(DataType::Timestamp(None, TimezoneInfo::WithTimeZone)),
        Type::TIMESTAMP => Some(DataType::Timestamp(None, TimezoneInfo::None)),
        Type::DATE => Some(DataType::Date),
        _ => None,
    }
}

/// A portal with parameters as texts where datafusion-postgres does not understand them: UUIDs, because ids are text here, lists without
/// a type, and NULLs without a type, which it would leave out, so that each later parameter took the place of the one before.
pub(super) fn understood(portal: &Portal<Statement>) -> Option<Portal<Statement>> {
    let stored = &*portal.statement;
    let mut types = stored.parameter_types.clone();
    types.resize(types.len().max(portal.parameters.len()), None);
    let mut parameters = portal.parameters.clone();
    let mut is_changed = false;
    for (place, value) in parameters.iter_mut().enumerate() {
        let is_binary = portal.parameter_format.is_binary(place);
        let given = types.get(place).cloned().flatten().filter(|given| *given != Type::UNKNOWN);
        let (changed, text) = match (given, &*value) {
            (None, None) if !is_inferred(stored, place) => (Type::TEXT, None),
            // It would be split at each comma, with quotes as parts of the texts.
            (None, Some(list)) if is_list(list) && !is_binary && !is_inferred(stored, place) => {
                (Type::TEXT_ARRAY, Some(list.clone()))
            }
            (Some(Type::UUID), id) => match id.as_ref().map(|id| text_of(id, is_binary)) {
                Some(None) => continue,
                text => (Type::TEXT, text.flatten()),
            },
            (Some(Type::UUID_ARRAY), ids) => match ids.as_ref().map(|ids| texts_of(ids, is_binary)) {
                Some(None) => continue,
                texts => (Type::TEXT_ARRAY, texts.flatten()),
            },
            _ => continue,
        };
        types[place] = Some(changed);
        *value = text;
        is_changed = true;
    }
    if !is_changed {
        return None;
    }
    let mut changed = Portal::default();
    changed.name.clone_from(&portal.name);
    changed.statement = Arc::new(StoredStatement::new(stored.id.clone(), stored.statement.clone(), types));
    changed.parameter_format = portal.parameter_format.clone();
    changed.parameters = parameters;
    changed.result_column_format = portal.result_column_format.clone();
    changed.state = portal.state.clone();
    Some(changed)
}

/// Whether the place of a parameter says of what type it is.
fn is_inferred(stored: &StoredStatement<Statement>, place: usize) -> bool {
    let (_, Some((_, plan))) = &stored.statement else { return false };
    let inferred = plan.get_parameter_types().unwrap_or_default();
    inferred.get(&format!("${}", place + 1)).is_some_and(Option::is_some)
}

fn is_list(value: &[u8]) -> bool {
    value.starts_with(b"{") && value.ends_with(b"}")
}

/// As ids are written here: psycopg leaves out the hyphens.
fn text_of(id: &[u8], is_binary: bool) -> Option<Bytes> {
    let id = match is_binary {
        true => Uuid::from_slice(id),
        false => Uuid::try_parse_ascii(id),
    };
    Some(Bytes::from(id.ok()?.hyphenated().to_string()))
}

fn texts_of(ids: &[u8], is_binary: bool) -> Option<Bytes> {
    if is_binary {
        return binary_texts_of(ids);
    }
    let ids = std::str::from_utf8(ids).ok()?.strip_prefix('{')?.strip_suffix('}')?;
    let texts = ids.split(',').filter(|id| !id.is_empty()).map(|id| match id.trim().trim_matches('"') {
        null if null.eq_ignore_ascii_case("null") => Some("NULL".to_owned()),
        id => Some(Uuid::try_parse(id).ok()?.hyphenated().to_string()),
    });
    Some(Bytes::from(format!("{{{}}}", texts.collect::<Option<Vec<_>>>()?.join(","))))
}

/// A list of texts for one of UUIDs, in PostgreSQL's binary format: dimensions, whether there are NULLs, the OID of the type, for each
/// dimension its length and first index, then each value after its length, which is -1 for NULL.
fn binary_texts_of(ids: &[u8]) -> Option<Bytes> {
    const HEAD: usize = 20;
    const OID_AT: usize = 8;
    let mut texts = BytesMut::from(ids.get(..ids.len().min(HEAD))?);
    texts.get_mut(OID_AT..OID_AT + 4)?.copy_from_slice(&Type::TEXT.oid().to_be_bytes());
    let mut rest = ids.get(HEAD.min(ids.len())..)?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        rest = after;
        if length < 0 {
            texts.put_i32(length);
            continue;
        }
        let (id, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let text = text_of(id, true)?;
        texts.put_i32(i32::try_from(text.len()).ok()?);
        texts.put(text);
        rest = after;
    }
    rest.is_empty().then(|| texts.freeze())
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::pgwire::messages::data::{FORMAT_CODE_BINARY, FORMAT_CODE_TEXT};

    use super::*;

    fn with_types(sql: &str, types: &[Type]) -> String {
        typed(Cow::Borrowed(sql), &types.iter().cloned().map(Some).collect::<Vec<_>>()).into_owned()
    }

    #[test]
    fn times_that_are_added_have_the_type_that_the_client_names() {
        for (sql, types, expected) in [
            ("SELECT now() - $1", &[Type::INTERVAL][..], "SELECT now() - CAST($1 AS INTERVAL)"),
            (
                "SELECT 1 WHERE a > $1 - INTERVAL '1 day'",
                &[Type::TIMESTAMPTZ],
                "SELECT 1 WHERE a > CAST($1 AS TIMESTAMP WITH TIME ZONE) - INTERVAL '1 day'",
            ),
            (
                "SELECT $2 + $1",
                &[Type::INTERVAL, Type::DATE],
                "SELECT CAST($2 AS DATE) + CAST($1 AS INTERVAL)",
            ),
        ] {
            assert_eq!(with_types(sql, types), expected);
        }
        // A comparison says it itself, and by the time that the column has.
        for (sql, types) in [
            ("SELECT 1 WHERE a > $1 AND b < $2", &[Type::TIMESTAMPTZ, Type::INTERVAL][..]),
            ("SELECT a + $1", &[Type::FLOAT8]),
            ("SELECT a - $3", &[Type::INTERVAL]),
            ("SELEC $1 + 1", &[Type::DATE]),
        ] {
            assert_eq!(with_types(sql, types), sql);
        }
    }

    fn portal(types: Vec<Option<Type>>, format: i16, parameters: Vec<Option<Bytes>>) -> Portal<Statement> {
        let mut portal = Portal::default();
        portal.statement = Arc::new(StoredStatement::new(String::new(), (String::new(), None), types));
        portal.parameter_format = format.into();
        portal.parameters = parameters;
        portal
    }

    #[test]
    fn nulls_without_a_type_keep_their_place() {
        let a = Some(Bytes::from_static(b"a"));
        let asked = portal(vec![None, Some(Type::UNKNOWN)], FORMAT_CODE_TEXT, vec![None, None, a.clone()]);
        let changed = understood(&asked).unwrap();
        assert_eq!(changed.parameters, [None, None, a.clone()]);
        assert_eq!(changed.statement.parameter_types, [Some(Type::TEXT), Some(Type::TEXT), None]);
        assert!(understood(&portal(vec![Some(Type::INT4), None], FORMAT_CODE_TEXT, vec![None, a])).is_none());
    }

    #[test]
    fn ids_are_texts() {
        const ID: &str = "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0";
        let id = Uuid::parse_str(ID).unwrap();
        let bytes = Some(Bytes::copy_from_slice(id.as_bytes()));
        let changed = understood(&portal(vec![Some(Type::UUID)], FORMAT_CODE_BINARY, vec![bytes])).unwrap();
        assert_eq!(changed.parameters, [Some(Bytes::from_static(ID.as_bytes()))]);
        assert_eq!(changed.statement.parameter_types, [Some(Type::TEXT)]);
        let text = Some(Bytes::from_static(ID.as_bytes()));
        let changed =
            understood(&portal(vec![Some(Type::UUID)], FORMAT_CODE_TEXT, vec![text.clone()])).unwrap();
        assert_eq!(changed.parameters, [text]);
        let refused =
            portal(vec![Some(Type::UUID)], FORMAT_CODE_BINARY, vec![Some(Bytes::from_static(b"short"))]);
        assert!(understood(&refused).is_none());
    }

    #[test]
    fn lists_without_a_type_are_read_with_their_quotes() {
        let list = Some(Bytes::from_static(br#"{plant-1,"O'Brien's, Hall","lab\\2",NULL}"#));
        let changed = understood(&portal(vec![None], FORMAT_CODE_TEXT, vec![list])).unwrap();
        let found: Vec<Option<String>> = changed.parameter(0, &Type::TEXT_ARRAY).unwrap().unwrap();
        let expected = [Some("plant-1"), Some("O'Brien's, Hall"), Some("lab\\2"), None];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn lists_of_ids_are_lists_of_texts() {
        let id = Uuid::from_u128(7);
        let mut list = BytesMut::new();
        for word in [1, 1, i32::try_from(Type::UUID.oid()).unwrap(), 2, 1, 16] {
            list.put_i32(word);
        }
        list.put_slice(id.as_bytes());
        list.put_i32(-1);
        let given = portal(vec![Some(Type::UUID_ARRAY)], FORMAT_CODE_BINARY, vec![Some(list.freeze())]);
        let changed = understood(&given).unwrap();
        let found: Vec<Option<String>> = changed.parameter(0, &Type::TEXT_ARRAY).unwrap().unwrap();
        assert_eq!(found, [Some(id.to_string()), None]);
        let bare = Some(Bytes::from(format!("{{{},NULL}}", id.simple())));
        let changed =
            understood(&portal(vec![Some(Type::UUID_ARRAY)], FORMAT_CODE_TEXT, vec![bare])).unwrap();
        let found: Vec<Option<String>> = changed.parameter(0, &Type::TEXT_ARRAY).unwrap().unwrap();
        assert_eq!(found, [Some(id.to_string()), None]);
        for cut in [&b""[..], &[0; 3], &[0; 21]] {
            let cut =
                portal(vec![Some(Type::UUID_ARRAY)], FORMAT_CODE_BINARY, vec![Some(Bytes::from_static(cut))]);
            assert!(understood(&cut).is_none());
        }
    }
}
