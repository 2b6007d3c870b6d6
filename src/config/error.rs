//! Errors of the configuration: each message names the key, the source of its value, and the remedy.

use std::io;
use std::path::PathBuf;

use super::Origin;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` or IOTCTL_CONFIG is missing.
    #[error("config file {} (named by {by}) does not exist (`iotctl config init {}` writes one)", path.display(), path.display())]
    NoFile { path: PathBuf, by: String },
    #[error("cannot read config file {}: {source} (make it readable, or name another with --config)", path.display())]
    UnreadableFile { path: PathBuf, source: io::Error },
    #[error("config file {} is larger than {limit} bytes (name another with --config)", path.display())]
    FileTooLarge { path: PathBuf, limit: u64 },
    #[error("{}, line {line}: this is not TOML: {message} (`iotctl config init FILE` writes an example)", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("unknown key {key} ({origin}): {}`iotctl config show` lists every key", did_you_mean(suggestion.as_deref()))]
    UnknownKey { key: String, origin: Origin, suggestion: Option<String> },
    #[error("unknown variable {variable}: {}a setting's variable is IOTCTL_SECTION_KEY, such as IOTCTL_KAFKA_TOPIC", did_you_mean(suggestion.as_deref()))]
    UnknownVariable { variable: String, suggestion: Option<String> },
    #[error("variable {variable} is not UTF-8 (set it to plain text, or unset it)")]
    NotText { variable: String },
    /// A value of the wrong type or out of bounds.
    #[error("{key} ({origin}): {problem}")]
    Value { key: String, origin: Origin, problem: String },
    /// Values that Cassandra or Kafka would refuse, or that contradict each other. At least one key.
    #[error("{}: {problem}", keys_with_origins(keys))]
    Rule { keys: Vec<(String, Origin)>, problem: String },
    #[error("{key} ({origin}): cannot read {}: {reason} (its first line must be the password)", path.display())]
    PasswordFile { key: String, origin: Origin, path: PathBuf, reason: String },
    #[error("the values do not form a configuration: {0}")]
    Shape(#[from] toml::de::Error),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|suggestion| format!("did you mean {suggestion}? ")).unwrap_or_default()
}

fn keys_with_origins(keys: &[(String, Origin)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(key, origin)| format!("{key} ({origin})")).collect();
    keys.join(", ")
}
