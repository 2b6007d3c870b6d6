//! Merges defaults, file, environment and flags into one [`Config`], remembering where each value came from.
//!
//! The sources are merged as flat `section.key` settings, each with its [`Origin`]. The struct is built from the result
//! and checked as a whole. So every error can name its source.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::settings::{Given, Settings};
use super::show::Effective;
use super::{Config, ConfigError, Origin, environment, file, password_file, validate};

/// What the user gave on the command line, before it is merged.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`; else IOTCTL_CONFIG, else ./iotctl.toml, else the user's config folder.
    pub file: Option<PathBuf>,
    /// (flag as typed, `section.key`, value), such as ("--topic", "kafka.topic", "readings"). The last one wins.
    pub flags: Vec<(String, String, String)>,
}

/// The environment of the process; tests bring their own.
#[derive(Debug, Default)]
struct Surroundings {
    variables: Vec<(OsString, OsString)>,
    /// Tried in this order if no file is named.
    default_files: Vec<PathBuf>,
}

/// The effective configuration, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Every setting in the order of the file, secrets redacted.
    pub effective: Vec<Effective>,
    /// The config file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Loaded {
    /// Reads the file, the environment and the flags. Errors: anything unknown, ill-typed, out of bounds or
    /// contradictory.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let surroundings =
            Surroundings { variables: std::env::vars_os().collect(), default_files: file::default_files() };
        Self::from(sources, surroundings)
    }

    /// The `section.key` of each setting that does not come from the defaults.
    pub fn given(&self) -> BTreeSet<String> {
        let given = self.effective.iter().filter(|setting| setting.origin != Origin::Default);
        given.map(|setting| setting.key.clone()).collect()
    }

    fn from(sources: &Sources, surroundings: Surroundings) -> Result<Self, ConfigError> {
        let variables = environment::variables(surroundings.variables)?;
        let found = find_file(sources, &variables, &surroundings.default_files)?;
        let mut settings = Settings::defaults();
        if let Some((path, text)) = &found {
            for setting in file::settings(path, text)? {
                settings.assign(&setting.path, Given::Value(setting.value), setting.origin)?;
            }
            warn_of_exposed_secrets(&settings, path);
        }
        for (variable, value) in variables {
            if let Some(key) = environment::key_of(&variable)? {
                settings.assign(key.name, Given::Text(value), Origin::Environment(variable))?;
            }
        }
        for (flag, key, value) in &sources.flags {
            settings.assign(key, Given::Text(value.clone()), Origin::Flag(flag.clone()))?;
        }
        let mut config = settings.build()?;
        validate::validate(&config).map_err(|violation| settings.rule_error(violation))?;
        read_passwords(&mut config, &mut settings)?;
        Ok(Self { config, effective: settings.into_effective(), file: found.map(|(path, _)| path) })
    }
}

/// The config file's path and text.
fn find_file(
    sources: &Sources,
    variables: &[(String, String)],
    default_files: &[PathBuf],
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let by_variable = || {
        let (_, path) = variables.iter().find(|(name, path)| name == "IOTCTL_CONFIG" && !path.is_empty())?;
        Some((PathBuf::from(path), "variable IOTCTL_CONFIG"))
    };
    let Some((path, by)) = sources.file.clone().map(|path| (path, "--config")).or_else(by_variable) else {
        return file::read_first(default_files);
    };
    match file::read_first(std::slice::from_ref(&path))? {
        Some(found) => Ok(Some(found)),
        None => Err(ConfigError::NoFile { path, by: by.to_owned() }),
    }
}

fn warn_of_exposed_secrets(settings: &Settings, path: &std::path::Path) {
    if settings.have_secrets()
        && let Ok(metadata) = std::fs::metadata(path)
    {
        password_file::warn_if_exposed(path, &metadata);
    }
}

/// Fills in the passwords from password files. That no password is given twice was checked before.
fn read_passwords(config: &mut Config, settings: &mut Settings) -> Result<(), ConfigError> {
    let Config { cassandra, kafka, mqtt, schema_registry: registry, .. } = config;
    let places = [
        ("cassandra.password", &cassandra.password_file, &mut cassandra.password),
        ("kafka.sasl_password", &kafka.sasl_password_file, &mut kafka.sasl_password),
        ("mqtt.password", &mqtt.password_file, &mut mqtt.password),
        ("schema_registry.password", &registry.password_file, &mut registry.password),
    ];
    for (password_key, path, password) in places {
        let Some(path) = path else { continue };
        let secret = password_file::read(path).map_err(|reason| {
            let key = format!("{password_key}_file");
            ConfigError::PasswordFile { origin: settings.origin(&key), key, path: path.clone(), reason }
        })?;
        settings.mark_as_read_from(password_key, path);
        *password = Some(secret);
    }
    Ok(())
}

/// The defaults with the text of a config file and one flag applied, without reading any file.
pub(crate) fn from_text(text: &str, flag: Option<(&str, &str)>) -> Result<Config, ConfigError> {
    let mut settings = Settings::defaults();
    for setting in file::settings(std::path::Path::new("iotctl.toml"), text)? {
        settings.assign(&setting.path, Given::Value(setting.value), setting.origin)?;
    }
    if let Some((key, value)) = flag {
        settings.assign(key, Given::Text(value.to_owned()), Origin::Flag("-O".to_owned()))?;
    }
    let config = settings.build()?;
    validate::validate(&config).map_err(|violation| settings.rule_error(violation))?;
    Ok(config)
}

/// Loads as if there were no environment and no other files.
#[cfg(test)]
pub(super) fn from_file_alone(sources: &Sources) -> Result<Loaded, ConfigError> {
    Loaded::from(sources, Surroundings::default())
}

#[cfg(test)]
mod tests;
