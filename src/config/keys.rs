//! The table of all settings, and lookups in it: by exact name, or by the nearest spelling.

use super::section::{Key, Section};
use super::value::Kind::Map;
use super::{
    CassandraConfig, CassandraTlsConfig, ClusterConfig, DockerConfig, ForecastConfig, HttpConfig,
    IngestConfig, KafkaConfig, LocalConfig, MqttConfig, RetentionConfig, RollupConfig, SchemaConfig,
    SchemaRegistryConfig,
};

/// Variables with the prefix that are not settings.
pub(crate) const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("IOTCTL_CONFIG", "path of the config file, if --config is not given"),
    ("IOTCTL_JAVA", "JDK of the local servers"),
    ("IOTCTL_LOG", "filter of the log on stderr, such as iotctl=debug"),
];

/// Sections in the order of the file.
pub(crate) const SECTIONS: &[Section] = &[
    CassandraConfig::SECTION,
    CassandraTlsConfig::SECTION,
    SchemaConfig::SECTION,
    KafkaConfig::SECTION,
    MqttConfig::SECTION,
    SchemaRegistryConfig::SECTION,
    HttpConfig::SECTION,
    IngestConfig::SECTION,
    RetentionConfig::SECTION,
    RollupConfig::SECTION,
    ForecastConfig::SECTION,
    LocalConfig::SECTION,
    ClusterConfig::SECTION,
    DockerConfig::SECTION,
];

/// All settings, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key that `path` names and, for an entry of a map (`kafka.properties.linger.ms`), the entry's own name.
pub(crate) fn find(path: &str) -> Option<(&'static Key, Option<&str>)> {
    all().find_map(|key| {
        let rest = path.strip_prefix(key.name)?;
        match (rest, &key.kind) {
            ("", _) => Some((key, None)),
            (rest, Map(_)) => Some((key, Some(rest.strip_prefix('.').filter(|entry| !entry.is_empty())?))),
            _ => None,
        }
    })
}

/// Whether `path` is a section with keys below it.
pub(crate) fn is_section(path: &str) -> bool {
    all().any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// A longer name is not a typo, and comparing spellings takes memory in proportion to the product of both lengths.
const MAX_MISSPELT: usize = 80;

/// What was probably meant: nearly the same key of the same section, the same key of another section, else the nearest
/// spelling.
pub(crate) fn nearest(path: &str) -> Option<&'static str> {
    if path.len() > MAX_MISSPELT {
        return None;
    }
    let last = path.rsplit('.').next().unwrap_or(path);
    let section = path.strip_suffix(last).unwrap_or_default().trim_end_matches('.');
    let in_section = all()
        .filter(|key| key.split().0 == section)
        .map(|key| (strsim::damerau_levenshtein(key.split().1, last), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    if let Some((_, name)) = in_section {
        return Some(name);
    }
    let same_key = all().filter(|key| key.split().1 == last);
    let by_spelling = |key: &&Key| strsim::damerau_levenshtein(key.name, path);
    if let Some(key) = same_key.min_by_key(by_spelling) {
        return Some(key.name);
    }
    let bare = !path.contains('.');
    all()
        .map(|key| {
            let known = if bare { key.split().1 } else { key.name };
            (strsim::damerau_levenshtein(known, path), key.name)
        })
        .min()
        .filter(|(distance, _)| *distance <= 2.max(path.len() / 4))
        .map(|(_, name)| name)
}

/// The variable that was probably meant.
pub(crate) fn nearest_variable(variable: &str) -> Option<String> {
    if variable.len() > MAX_MISSPELT {
        return None;
    }
    all()
        .map(Key::variable)
        .chain(OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned()))
        .map(|known| (strsim::damerau_levenshtein(&known, variable), known))
        .min()
        .filter(|(distance, _)| *distance <= 4)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    /// Every leaf of the struct as `section.key`, with whether it is absent by default.
    fn fields(value: &serde_json::Value, prefix: &str, found: &mut BTreeSet<(String, bool)>) {
        match value {
            serde_json::Value::Object(map) if find(prefix).is_none() => {
                for (name, value) in map {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    fields(value, &path, found);
                }
            }
            leaf => {
                found.insert((prefix.to_owned(), leaf.is_null()));
            }
        }
    }

    #[test]
    fn the_table_of_keys_is_exactly_the_struct() {
        let mut of_struct = BTreeSet::new();
        fields(&serde_json::to_value(Config::default()).unwrap(), "", &mut of_struct);
        let of_table: BTreeSet<_> = all().map(|key| (key.name.to_owned(), key.optional)).collect();
        assert_eq!(of_table, of_struct);
    }

    #[test]
    fn each_key_has_a_section_and_a_variable_of_its_own() {
        let mut variables: BTreeSet<_> = OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        for key in all() {
            assert!(SECTIONS.iter().any(|section| section.name == key.split().0), "{}", key.name);
            assert!(variables.insert(key.variable()), "{}", key.variable());
        }
    }

    #[test]
    fn a_typo_finds_the_key_that_was_meant() {
        assert_eq!(nearest("kafka.topics"), Some("kafka.topic"));
        assert_eq!(nearest("kafak.topic"), Some("kafka.topic"));
        assert_eq!(nearest("topic"), Some("kafka.topic"));
        assert_eq!(nearest("cassandra.ca_file"), Some("cassandra.tls.ca_file"));
        assert_eq!(nearest("ingest.request_timeout"), Some("kafka.request_timeout"));
        assert_eq!(nearest("nothing.like.it"), None);
        assert_eq!(nearest_variable("IOTCTL_KAFKA_TOPICS").as_deref(), Some("IOTCTL_KAFKA_TOPIC"));
        assert_eq!(nearest_variable("IOTCTL_SOMETHING_ELSE"), None);
        let long = format!("kafka.{}topic", "a".repeat(10 << 20));
        assert_eq!((nearest(&long), nearest_variable(&long)), (None, None));
    }
}
