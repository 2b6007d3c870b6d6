//! JSON that stands in a message as text, plain or in base64: the program that takes it out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::observed::{self, Place};
use crate::mapping::jq::Program;
use crate::mapping::path::Path;

/// How a text holds JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Base64,
}

/// The program, and the values that it makes of these; `None` if no text of theirs holds JSON.
pub(super) fn taken_out(values: &[Value]) -> Option<(String, Vec<Value>)> {
    let all: Vec<&Value> = values.iter().collect();
    let texts = observed::places("value", &all);
    let parts: Vec<String> = texts
        .iter()
        // A path of jq has no other way to write indices, and one array says nothing of the next.
        .filter(|place| !place.path.contains('[') && place.count == place.of)
        .filter_map(|place| Some(step(place, form(&place.examples)?)))
        .collect();
    if parts.is_empty() {
        return None;
    }
    let program = format!(".value{}", parts.concat());
    let compiled = Program::parse(&program).ok()?;
    let taken = values.iter().map(|value| compiled.run(serde_json::json!({"value": value})).ok());
    Some((program, taken.collect::<Option<_>>()?))
}

fn form(examples: &[Value]) -> Option<Form> {
    let texts: Option<Vec<&str>> = examples.iter().map(Value::as_str).collect();
    let texts = texts.filter(|texts| !texts.is_empty())?;
    let is_json = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object() || value.is_array())
    };
    if texts.iter().all(|text| is_json(text.as_bytes())) {
        return Some(Form::Json);
    }
    let is_packed = |text: &&str| STANDARD.decode(text).is_ok_and(|bytes| is_json(&bytes));
    texts.iter().all(is_packed).then_some(Form::Base64)
}

fn step(place: &Place, form: Form) -> String {
    let read = match form {
        Form::Json => "fromjson",
        Form::Base64 => "@base64d | fromjson",
    };
    // Quotation marks around each name: jq takes `.a-b` for a subtraction.
    let names = Path::parse(&place.path).map(|path| path.names()).unwrap_or_default();
    let path: String = names.iter().map(|name| format!(".{}", Value::from(name.as_str()))).collect();
    format!(" | {path} |= (if type == \"string\" then {read} else . end)")
}
