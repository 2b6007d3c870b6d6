//! `iotctl config show`: the settings in force with their origin, secrets redacted.

use serde_json::json;
use toml::Value;

use super::Origin;

/// A setting in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// `section.key`, or `kafka.properties.linger.ms` for an entry of a map.
    pub key: String,
    /// `None` if it is not set. A secret is `<redacted>`.
    pub value: Option<Value>,
    pub origin: Origin,
}

/// `{"kafka.topic": {"value": "readings", "origin": "flag --topic"}, …}`; null if it is not set.
pub fn as_json(effective: &[Effective]) -> serde_json::Value {
    let entries = effective.iter().map(|setting| {
        (setting.key.clone(), json!({ "value": setting.value, "origin": setting.origin.to_string() }))
    });
    serde_json::Value::Object(entries.collect())
}
