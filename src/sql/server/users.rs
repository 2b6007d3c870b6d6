//! The users file: who may log in, and which locations each of them sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tracing::{info, warn};

use super::scram::Verifier;
use crate::sql::Access;
use crate::tls::files::Stamp;

/// A user of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) verifier: Verifier,
    pub(super) access: Access,
    pub(super) max_clients: Option<u16>,
}

/// A table of the file: `[name]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    verifier: String,
    locations: Vec<String>,
    max_clients: Option<u16>,
}

type ByName = BTreeMap<String, User>;

/// The users, read again when the file changes.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    loaded: Mutex<(Option<Stamp>, Arc<ByName>)>,
}

impl Users {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let stamp = Stamp::of(path).ok();
        let users = read(path)?;
        if users.is_empty() {
            return Err(format!(
                "{} has no user (add one: iotctl serve user NAME --location '*' >> {})",
                path.display(),
                path.display()
            ));
        }
        Ok(Self { path: path.to_owned(), loaded: Mutex::new((stamp, Arc::new(users))) })
    }

    /// The user of this name, and a verifier that fits no password where there is none.
    pub(super) fn find(&self, name: &str) -> (Verifier, Option<User>) {
        let users = self.current();
        match users.get(name) {
            Some(user) => (user.verifier.clone(), Some(user.clone())),
            None => {
                let secret: Vec<u8> =
                    users.values().flat_map(|user| user.verifier.server_key()).copied().collect();
                (Verifier::of_nobody(&secret, name), None)
            }
        }
    }

    fn current(&self) -> Arc<ByName> {
        let mut loaded = self.loaded.lock().expect("no panic while locked");
        let stamp = Stamp::of(&self.path).ok();
        if stamp != loaded.0 {
            loaded.0 = stamp;
            match read(&self.path) {
                Ok(users) => {
                    info!(users = users.len(), "read {} again", self.path.display());
                    loaded.1 = Arc::new(users);
                }
                Err(error) => warn!("the users stay as they were: {error}"),
            }
        }
        loaded.1.clone()
    }
}

fn read(path: &Path) -> Result<ByName, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {shown}: {error} (add a user: iotctl serve user --help)"))?;
    if let Ok(metadata) = path.metadata() {
        crate::config::password_file::warn_if_exposed(path, &metadata);
    }
    parse(&text).map_err(|error| format!("{shown}: {error}"))
}

fn parse(text: &str) -> Result<ByName, String> {
    let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|error| error.to_string())?;
    let user = |(name, Entry { verifier, locations, max_clients }): (String, Entry)| {
        let verifier = verifier.parse().map_err(|error| format!("[{name}] verifier: {error}"))?;
        Ok((name, User { verifier, access: Access::of(&locations), max_clients }))
    };
    entries.into_iter().map(user).collect()
}

/// The entry of a user for the file.
pub fn entry(name: &str, verifier: &Verifier, locations: &[String]) -> String {
    let mut table = toml::Table::new();
    table.insert("verifier".to_owned(), verifier.to_string().into());
    table.insert("locations".to_owned(), locations.to_vec().into());
    let mut file = toml::Table::new();
    file.insert(name.to_owned(), table.into());
    file.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let verifier = Verifier::of("secret").unwrap();
        let names = ["grafana", "a.b", "O'Neil \"x\"", "ü"];
        let text: String = names
            .iter()
            .map(|name| entry(name, &verifier, &["plant-1".to_owned(), "hall \"*\"".to_owned()]))
            .collect();
        let users = parse(&text).unwrap();
        assert_eq!(users.len(), names.len());
        for name in names {
            let user = &users[name];
            assert_eq!(user.verifier, verifier);
            assert!(user.access.permits("plant-1") && user.access.permits("hall \"7\""));
            assert!(!user.access.permits("plant-2") && !user.access.is_all());
        }
    }

    #[test]
    fn a_file_that_says_less_or_more_is_refused() {
        let verifier = Verifier::of("secret").unwrap();
        for (text, reason) in [
            (format!("[a]\nverifier = \"{verifier}\""), "locations"),
            ("[a]\nlocations = [\"*\"]".to_owned(), "verifier"),
            ("[a]\nverifier = \"secret\"\nlocations = [\"*\"]".to_owned(), "not a SCRAM-SHA-256 verifier"),
            (format!("[a]\nverifier = \"{verifier}\"\nlocations = [\"*\"]\nrole = \"x\""), "role"),
            (format!("{0}{0}", entry("a", &verifier, &[])), "duplicate key"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let verifier = Verifier::of("secret").unwrap();
        std::fs::write(&path, entry("a", &verifier, &[])).unwrap();
        let users = Users::open(&path).unwrap();
        assert!(users.find("a").1.is_some() && users.find("bb").1.is_none());
        std::fs::write(&path, entry("bb", &verifier, &[])).unwrap();
        assert!(users.find("a").1.is_none() && users.find("bb").1.is_some());
        std::fs::write(&path, "broken").unwrap();
        assert!(users.find("bb").1.is_some());
        std::fs::write(&path, "").unwrap();
        assert!(users.find("bb").1.is_none());
        assert!(Users::open(&path).unwrap_err().contains("has no user"));
    }
}
