//! Merges defaults, file, environment and flags into one [`Config`], remembering where each value came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Config;

/// Where a value came from, in rising precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(String),
}

/// What the user gave, before it is merged.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`; else ./iotctl.toml, else the user's config folder.
    pub file: Option<PathBuf>,
    /// (flag as typed, `section.key`, value), such as ("--topic", "kafka.topic", "readings").
    pub flags: Vec<(String, String, String)>,
}

/// The effective configuration and the origin of each `section.key`.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub origins: BTreeMap<String, Origin>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {}

impl Loaded {
    pub fn load(_sources: &Sources) -> Result<Self, ConfigError> {
        Ok(Self { config: Config::default(), origins: BTreeMap::new() })
    }
}
