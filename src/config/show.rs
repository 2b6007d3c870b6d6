//! `iotctl config show`: the effective values with their origin, secrets redacted.

use comfy_table::presets;
use serde_json::json;
use toml::Value;

use super::Origin;
use crate::output::table::table;

/// A setting as it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// `section.key`, or `kafka.properties.linger.ms` for an entry of a map.
    pub key: String,
    /// `None` when it is not set. A secret is `<redacted>`.
    pub value: Option<Value>,
    pub origin: Origin,
}

/// For people.
pub fn as_table(effective: &[Effective]) -> String {
    let mut table = table(&["key", "value", "origin"], &[]);
    // Many short rows: no lines between them.
    table.load_style(presets::NOTHING);
    for setting in effective {
        let value = match &setting.value {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Some(other) => other.to_string(),
        };
        table.add_row([setting.key.clone(), value, setting.origin.to_string()]);
    }
    table.to_string()
}

/// `{"kafka.topic": {"value": "readings", "origin": "flag --topic"}, …}`; null when it is not set.
pub fn as_json(effective: &[Effective]) -> serde_json::Value {
    let entries = effective.iter().map(|setting| {
        (setting.key.clone(), json!({ "value": setting.value, "origin": setting.origin.to_string() }))
    });
    serde_json::Value::Object(entries.collect())
}
