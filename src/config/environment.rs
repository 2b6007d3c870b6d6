//! Settings from the environment: IOTCTL_SECTION_KEY. An unknown variable with the prefix is an error, so that a typo
//! does not go unnoticed.

use std::ffi::OsString;

use super::ConfigError;
use super::keys::{self, OTHER_VARIABLES};
use super::section::{Key, VARIABLE_PREFIX};

/// The variables with our prefix, sorted, as (name, value).
pub(super) fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in environment {
        if !name.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes()) {
            continue;
        }
        let text = name
            .to_str()
            .zip(value.to_str())
            .ok_or_else(|| ConfigError::NotText { variable: name.to_string_lossy().into_owned() })?;
        found.push((text.0.to_owned(), text.1.to_owned()));
    }
    found.sort();
    Ok(found)
}

/// The setting that a variable names; `None` for a documented variable that is not a setting.
pub(super) fn key_of(variable: &str) -> Result<Option<&'static Key>, ConfigError> {
    if let Some(key) = keys::all().find(|key| key.variable() == variable) {
        return Ok(Some(key));
    }
    if OTHER_VARIABLES.iter().any(|(name, _)| *name == variable) {
        return Ok(None);
    }
    let suggestion = keys::nearest_variable(variable);
    Err(ConfigError::UnknownVariable { variable: variable.to_owned(), suggestion })
}
