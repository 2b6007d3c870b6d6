//! Which topics an ingest reads: those that its mapping names, or `kafka.topic`.
//!
//! Patterns are resolved here and not by the library, whose regular expressions are of another kind: the same expression
//! must decide what is read and which source of the mapping takes it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use regex::Regex;

use super::{Error, topics};
use crate::config::{Config, KafkaConfig};
use crate::error::UsageError;
use crate::mapping::Mapping;

/// How often patterns are resolved again, unless `topic.metadata.refresh.interval.ms` says otherwise.
const REFRESH: Duration = Duration::from_secs(30);
const REFRESH_PROPERTY: &str = "topic.metadata.refresh.interval.ms";

/// Names and patterns of topics.
#[derive(Debug, Clone)]
pub struct Subscription {
    names: Vec<String>,
    patterns: Vec<Regex>,
    /// Topics that the program itself writes to: a pattern never takes them.
    own: Vec<String>,
    refresh: Duration,
}

impl Subscription {
    pub fn new(config: &KafkaConfig, mapping: Option<&Mapping>) -> Self {
        let (mut names, patterns) = mapping.map(Mapping::topics).unwrap_or_default();
        if names.is_empty() && patterns.is_empty() {
            names.push(config.topic.clone());
        }
        let refresh = config.properties.get(REFRESH_PROPERTY).and_then(|value| value.parse().ok());
        Self {
            names,
            patterns,
            own: vec![config.dead_letter_topic(), config.alerts_topic(), config.alerts_dead_letter_topic()],
            refresh: refresh.map_or(REFRESH, |ms: u64| Duration::from_millis(ms.max(1000))),
        }
    }

    /// With the mapping of the configuration, if there is one.
    ///
    /// # Errors
    /// What is wrong with the mapping.
    pub fn configured(config: &Config) -> Result<Self, UsageError> {
        let mapping = config.ingest.mapping.as_deref().map(Mapping::load).transpose()?;
        Ok(Self::new(&config.kafka, mapping.as_ref()))
    }

    /// As [`Subscription::configured`]; the built-in topic where the mapping cannot be read, which other commands report.
    pub fn configured_or_built_in(config: &Config) -> Self {
        Self::configured(config).unwrap_or_else(|error| {
            tracing::warn!(%error, "the topics of the mapping are left out");
            Self::new(&config.kafka, None)
        })
    }

    /// Whether messages of a topic are read.
    pub fn takes(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic) || self.fits_pattern(topic)
    }

    fn fits_pattern(&self, topic: &str) -> bool {
        !topic.starts_with("__")
            && !self.own.iter().any(|own| own == topic)
            && self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }

    /// The topics that are read, of those that exist: the named ones first, existing or not.
    pub fn among<'a>(&self, existing: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let fitting: BTreeSet<&str> = existing.into_iter().filter(|topic| self.fits_pattern(topic)).collect();
        let fitting = fitting.into_iter().filter(|topic| !self.names.iter().any(|name| name == topic));
        self.names.iter().cloned().chain(fitting.map(str::to_owned)).collect()
    }

    /// The topics that are read now.
    ///
    /// # Errors
    /// [`Error::MissingTopic`] or [`Error::MissingSource`] if a named one does not exist.
    pub async fn topics(&self, config: &KafkaConfig) -> Result<Vec<String>, Error> {
        for name in &self.names {
            topics::describe(config, name).await.map_err(|error| match error {
                Error::MissingTopic { topic, servers } if topic != config.topic => {
                    Error::MissingSource { topic, servers }
                }
                error => error,
            })?;
        }
        if self.patterns.is_empty() {
            return Ok(self.names.clone());
        }
        let existing = topics::names(config).await?;
        Ok(self.among(existing.iter().map(String::as_str)))
    }

    /// How often new topics are looked for; `None` where no pattern could fit one.
    pub fn refresh(&self) -> Option<Duration> {
        (!self.patterns.is_empty()).then_some(self.refresh)
    }

    /// Whether one topic is read, and never another.
    pub fn is_single(&self) -> bool {
        self.patterns.is_empty() && self.names.len() == 1
    }
}

/// "a, b, and topics that match ^plant\."
impl fmt::Display for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<_> = self.patterns.iter().map(Regex::as_str).collect();
        match (self.names.is_empty(), patterns.is_empty()) {
            (_, true) => write!(formatter, "{}", self.names.join(", ")),
            (true, false) => write!(formatter, "topics that match {}", patterns.join(" or ")),
            (false, false) => {
                write!(
                    formatter,
                    "{}, and topics that match {}",
                    self.names.join(", "),
                    patterns.join(" or ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(sources: &[&str]) -> Subscription {
        let rest = "location = \"topic\"\ndevice_type = \"topic\"\nsensor = \"key\"\nmetrics = { a = \"value.a\" }\n";
        let text: String = sources.iter().map(|source| format!("[[source]]\n{source}\n{rest}")).collect();
        Subscription::new(&KafkaConfig::default(), Some(&Mapping::parse("test", &text).unwrap()))
    }

    #[test]
    fn the_topics_of_all_sources_are_read_and_kafka_topic_where_none_is_named() {
        let built_in = KafkaConfig::default();
        assert!(Subscription::new(&built_in, None).takes(&built_in.topic));
        assert!(subscription(&[""]).takes(&built_in.topic) && subscription(&[""]).is_single());
        let both =
            subscription(&["topics = [\"a\", \"b\"]", "topics = [\"b\"]\ntopic_pattern = '^plant\\.'"]);
        assert_eq!(both.to_string(), "a, b, and topics that match ^plant\\.");
        assert_eq!(both.among(["plant.2", "other", "plant.1", "a"]), ["a", "b", "plant.1", "plant.2"]);
        assert!(!both.takes(&built_in.topic) && both.refresh().is_some());
    }

    #[test]
    fn a_pattern_never_takes_what_the_program_itself_writes() {
        let all = subscription(&["topic_pattern = '.'"]);
        let KafkaConfig { topic, .. } = KafkaConfig::default();
        assert!(all.takes(&topic) && all.takes("any"));
        let config = KafkaConfig::default();
        for own in [config.dead_letter_topic(), config.alerts_topic(), "__consumer_offsets".to_owned()] {
            assert!(!all.takes(&own), "{own}");
        }
    }
}
