//! Flat settings: `section.key` -> value and origin. Each source overrides the one before.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::check::Violation;
use super::keys;
use super::section::Key;
use super::show::Effective;
use super::value::Kind;
use super::{Config, ConfigError, Origin};

/// A value as a source gives it.
pub(super) enum Given {
    /// From the environment or a flag.
    Text(String),
    /// From the file.
    Value(Value),
}

/// Values in canonical form, secrets in plain text: no `Debug`, never printed.
pub(super) struct Settings {
    /// By path. A map such as `kafka.properties` has no value itself; each entry has its own path below it.
    by_path: BTreeMap<String, Setting>,
}

struct Setting {
    key: &'static Key,
    value: Option<Value>,
    origin: Origin,
}

impl Settings {
    /// Every key with its default.
    pub(super) fn defaults() -> Self {
        let defaults = Table::try_from(Config::default()).expect("the defaults are valid TOML");
        let by_path = keys::all().map(|key| {
            let value = default_of(&defaults, key);
            (key.name.to_owned(), Setting { key, value, origin: Origin::Default })
        });
        Self { by_path: by_path.collect() }
    }

    /// Sets a setting, a whole map, or one entry of a map. An empty value unsets an optional setting.
    pub(super) fn assign(&mut self, path: &str, given: Given, origin: Origin) -> Result<(), ConfigError> {
        let Some((key, entry)) = keys::find(path) else {
            let suggestion = keys::nearest(path).map(str::to_owned);
            return Err(ConfigError::UnknownKey { key: path.to_owned(), origin, suggestion });
        };
        let result = match (&key.kind, entry, given) {
            (Kind::Map(kind), None, Given::Text(text)) => self.assign_map(key, kind, &text, &origin),
            (Kind::Map(kind), Some(_), given) => self.assign_one(path, key, kind, given, &origin),
            (kind, _, given) => self.assign_one(path, key, kind, given, &origin),
        };
        result.map_err(|problem| ConfigError::Value { key: path.to_owned(), origin, problem })
    }

    fn assign_map(
        &mut self,
        key: &'static Key,
        kind: &Kind,
        text: &str,
        origin: &Origin,
    ) -> Result<(), String> {
        let entries = Kind::entries(text)?;
        let prefix = format!("{}.", key.name);
        self.by_path.retain(|path, _| !path.starts_with(&prefix));
        self.put(key.name, key, None, origin);
        for (name, text) in entries {
            let path = format!("{prefix}{name}");
            self.assign_one(&path, key, kind, Given::Text(text), origin)
                .map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    fn assign_one(
        &mut self,
        path: &str,
        key: &'static Key,
        kind: &Kind,
        given: Given,
        origin: &Origin,
    ) -> Result<(), String> {
        let is_empty = match &given {
            Given::Text(text) => text.is_empty(),
            Given::Value(value) => value.as_str() == Some(""),
        };
        if key.optional && is_empty {
            self.put(path, key, None, origin);
            return Ok(());
        }
        if is_secret(path, kind) && matches!(origin, Origin::Flag(_)) {
            return Err(format!(
                "command lines are visible to every user of the machine (set {} instead, or put it into a file)",
                key.variable()
            ));
        }
        let value = match given {
            Given::Text(text) => kind.read(&text)?,
            Given::Value(value) => kind.check(value)?,
        };
        self.put(path, key, Some(value), origin);
        Ok(())
    }

    fn put(&mut self, path: &str, key: &'static Key, value: Option<Value>, origin: &Origin) {
        self.by_path.insert(path.to_owned(), Setting { key, value, origin: origin.clone() });
    }

    /// The struct, not yet validated as a whole.
    pub(super) fn build(&self) -> Result<Config, ConfigError> {
        let mut root = Table::new();
        for (path, setting) in &self.by_path {
            let Some(value) = &setting.value else { continue };
            let name = setting.key.name;
            match path.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) {
                Some(entry) => insert(&mut root, name.split('.'), entry, value.clone()),
                None => {
                    let (section, key) = setting.key.split();
                    insert(&mut root, section.split('.'), key, value.clone());
                }
            }
        }
        Ok(root.try_into()?)
    }

    pub(super) fn origin(&self, path: &str) -> Origin {
        self.by_path.get(path).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Whether any secret has a value.
    pub(super) fn have_secrets(&self) -> bool {
        self.by_path.iter().any(|(path, setting)| setting.value.is_some() && setting.is_secret(path))
    }

    /// Records that a secret was read from a password file.
    pub(super) fn mark_as_read_from(&mut self, path: &str, file: &Path) {
        if let Some(setting) = self.by_path.get_mut(path) {
            setting.origin = Origin::File { path: file.to_owned(), line: 1 };
            setting.value = Some(Value::String(String::new()));
        }
    }

    /// A broken rule as an error, with the origins of its keys.
    pub(super) fn rule_error(&self, violation: Violation) -> ConfigError {
        let keys = violation.keys.into_iter().map(|key| {
            let origin = self.origin(&key);
            (key, origin)
        });
        ConfigError::Rule { keys: keys.collect(), problem: violation.problem }
    }

    /// Every setting in the order of the declarations, secrets redacted. A map with entries is listed as its entries.
    pub(super) fn into_effective(mut self) -> Vec<Effective> {
        let mut effective = Vec::new();
        for key in keys::all() {
            let prefix = format!("{}.", key.name);
            let entries = self.by_path.extract_if(.., |path, _| path.starts_with(&prefix));
            let entries: Vec<_> = entries.map(|(path, setting)| setting.into_effective(path)).collect();
            let whole = self.by_path.remove(key.name).filter(|_| entries.is_empty());
            effective.extend(whole.map(|setting| setting.into_effective(key.name.to_owned())));
            effective.extend(entries);
        }
        effective
    }
}

impl Setting {
    fn is_secret(&self, path: &str) -> bool {
        is_secret(path, &self.key.kind)
    }

    fn into_effective(self, path: String) -> Effective {
        let redacted = self.is_secret(&path);
        let value = self.value.map(|value| if redacted { Value::String("<redacted>".into()) } else { value });
        Effective { key: path, value, origin: self.origin }
    }
}

/// Whether a setting must not be shown: one of our passwords, or a librdkafka property with a name like one.
fn is_secret(path: &str, kind: &Kind) -> bool {
    const NAMED_LIKE: [&str; 7] =
        ["password", "secret", "token", "pem", "jaas", "credential", "oauthbearer.config"];
    let property = path.strip_prefix("kafka.properties.").map(str::to_lowercase);
    *kind == Kind::Secret
        || property.is_some_and(|name| NAMED_LIKE.iter().any(|fragment| name.contains(fragment)))
}

fn default_of(defaults: &Table, key: &Key) -> Option<Value> {
    if matches!(key.kind, Kind::Map(_)) {
        return None;
    }
    let mut parts = key.name.split('.');
    let first = defaults.get(parts.next()?)?;
    let value = parts.try_fold(first, |value, part| value.get(part))?;
    Some(key.kind.check(value.clone()).expect("a default lies within its own bounds"))
}

fn insert<'a>(root: &mut Table, sections: impl Iterator<Item = &'a str>, key: &str, value: Value) {
    let mut table = root;
    for section in sections {
        let below = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(below) = below else { unreachable!("no key is also a section") };
        table = below;
    }
    table.insert(key.to_owned(), value);
}
