//! Functions that drivers ask about the server and the session.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use super::members;
use super::startup::VERSION;

/// Registers them, for a session of this user.
pub(super) fn register(context: &SessionContext, user: &str) {
    let text = || DataType::Utf8;
    let version = format!("PostgreSQL {VERSION} (iotctl {}, Apache DataFusion)", env!("CARGO_PKG_VERSION"));
    // By its words drivers, such as SQLAlchemy's, know what the server can do: what the PostgreSQL of its catalog can.
    for function in [
        constant("version", &[], ScalarValue::from(version)),
        constant("current_user", &[], ScalarValue::from(user)),
        constant("session_user", &[], ScalarValue::from(user)),
        constant("user", &[], ScalarValue::from(user)),
        // psycopg asks for types of extensions (hstore), of which there are none.
        constant("to_regtype", &[text()], ScalarValue::Int32(None)),
        // asyncpg's pool, before it gives a connection to somebody else.
        constant("pg_advisory_unlock_all", &[], ScalarValue::Utf8(None)),
        constant("pg_is_in_recovery", &[], ScalarValue::from(false)),
        constant("inet_server_addr", &[], ScalarValue::Utf8(None)),
        constant("inet_server_port", &[], ScalarValue::Int32(None)),
        constant("txid_current", &[], ScalarValue::from(1_i64)),
        current_setting(),
        members::udf(),
    ] {
        context.register_udf(function);
    }
}

/// `current_setting(name)`: what Grafana and others read of a server. NULL for all other settings.
fn current_setting() -> ScalarUDF {
    let body = Arc::new(|arguments: &[ColumnarValue]| {
        let name = match arguments {
            [ColumnarValue::Scalar(name), ..] => {
                name.try_as_str().flatten().unwrap_or_default().to_lowercase()
            }
            _ => String::new(),
        };
        let value = match name.as_str() {
            "server_version_num" => Some("160006"),
            "server_version" => Some(VERSION),
            "search_path" => Some("public"),
            "timezone" => Some("UTC"),
            _ => None,
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value.map(str::to_owned))))
    });
    create_udf("current_setting", vec![DataType::Utf8], DataType::Utf8, Volatility::Stable, body)
}

/// A function that is the same for all rows and arguments.
fn constant(name: &str, arguments: &[DataType], value: ScalarValue) -> ScalarUDF {
    let data_type = value.data_type();
    let answer = ColumnarValue::Scalar(value);
    let body = Arc::new(move |_: &[ColumnarValue]| Ok(answer.clone()));
    create_udf(name, arguments.to_vec(), data_type, Volatility::Stable, body)
}
