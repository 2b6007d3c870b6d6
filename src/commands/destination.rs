//! Which servers a command asks if nothing names them: the local cluster, while it runs, wherever it listens.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Context;
use crate::config::{CassandraConfig, Config, KafkaConfig};
use crate::error::UsageError;
use crate::servers::local::running::{first_node, running};

const CONTACT_POINTS: &str = "cassandra.contact_points";
const BOOTSTRAP_SERVERS: &str = "kafka.bootstrap_servers";

/// The servers of `iotctl up` in place of the default addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What is not configured, such as "no contact point is configured".
    missing: &'static str,
    addresses: Vec<String>,
    data_dir: PathBuf,
}

impl std::fmt::Display for Local {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (addresses, folder) = (self.addresses.join(", "), self.data_dir.display());
        write!(out, "note: {}: using the local cluster at {addresses} (data in {folder})", self.missing)
    }
}

/// Puts the running local cluster in the place of addresses that are not `given` (settings by name). Returns what has
/// changed; `None` also if the local cluster is at the default addresses.
pub fn resolve(config: &mut Config, given: &BTreeSet<String>) -> Option<Local> {
    let cassandra = !given.contains(CONTACT_POINTS);
    let kafka = !given.contains(BOOTSTRAP_SERVERS);
    if cassandra {
        config.cassandra.contact_points = CassandraConfig::default().contact_points;
    }
    if kafka {
        config.kafka.bootstrap_servers = KafkaConfig::default().bootstrap_servers;
    }
    if !cassandra && !kafka {
        return None;
    }
    let found = running(&config.local)?;
    let mut moved = Vec::new();
    let mut replace = |setting: &mut Vec<String>, found: Vec<String>| {
        let Some(first) = found.first() else { return };
        if !setting.contains(first) {
            moved.push(first.clone());
        }
        *setting = found;
    };
    let texts = |addresses: &[std::net::SocketAddr]| addresses.iter().map(ToString::to_string).collect();
    if cassandra {
        replace(&mut config.cassandra.contact_points, texts(&found.cassandra));
    }
    if kafka {
        replace(&mut config.kafka.bootstrap_servers, texts(&found.kafka));
    }
    let missing = match (cassandra, kafka) {
        (true, true) => "no contact point or broker is configured",
        (true, false) => "no contact point is configured",
        _ => "no broker is configured",
    };
    (!moved.is_empty()).then_some(Local { missing, addresses: moved, data_dir: found.data_dir })
}

/// Resolves the servers of a command, with a remark if they are not the default ones.
pub fn choose(context: &mut Context) {
    if let Some(local) = resolve(&mut context.config, &context.given) {
        context.output.note(local.to_string());
    }
}

/// As [`choose`], for a command that deletes: the remark is printed even with `--quiet`, and a cluster that is configured
/// at another address and does not run is not replaced by whatever listens at the default one.
pub fn choose_for_deletion(context: &mut Context) -> Result<(), UsageError> {
    if let Some(local) = resolve(&mut context.config, &context.given) {
        context.output.print_remark(local.to_string());
    }
    let (default, local) = (CassandraConfig::default().contact_points, first_node(&context.config.local));
    let is_default = context.config.cassandra.contact_points == default;
    if context.given.contains(CONTACT_POINTS) || !is_default || default.contains(&local.to_string()) {
        return Ok(());
    }
    Err(UsageError::new(format!(
        "no contact point is configured, and the local cluster at {local} is not running (start it with `iotctl up`, or \
         set {CONTACT_POINTS})"
    )))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::config::LocalConfig;
    use crate::servers::local::Kind;
    use crate::servers::local::layout::Layout;
    use crate::servers::local::process::spawn;

    fn given(settings: &[&str]) -> BTreeSet<String> {
        settings.iter().map(|setting| (*setting).to_owned()).collect()
    }

    #[test]
    fn what_is_not_configured_goes_to_the_running_local_cluster_and_what_is_stays() {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalConfig { data_dir: Some(dir.path().to_owned()), ..Default::default() };
        let layout = Layout::of(&local).unwrap();
        layout.create().unwrap();
        let config = || Config { local: local.clone(), ..Config::default() };
        let mut nothing_runs = config();
        assert_eq!(resolve(&mut nothing_runs, &given(&[])), None);
        assert_eq!(nothing_runs, config());

        let start = |name: &str, kind, address: &str| {
            let mut sleep = Command::new("sleep");
            spawn(&layout, name, kind, address.parse().unwrap(), sleep.arg("60")).unwrap().1
        };
        let mut children = [
            start("cassandra-1", Kind::Cassandra, "127.0.50.1:9042"),
            start("cassandra-2", Kind::Cassandra, "127.0.50.2:9042"),
            start("kafka", Kind::Kafka, "127.0.50.1:9092"),
        ];
        let mut all = config();
        let text = resolve(&mut all, &given(&[])).map(|local| local.to_string()).unwrap_or_default();
        let mut brokers_given = config();
        brokers_given.kafka.bootstrap_servers = vec!["kafka1:9092".into()];
        let partly = resolve(&mut brokers_given, &given(&[BOOTSTRAP_SERVERS]));
        let mut both_given = config();
        let none = resolve(&mut both_given, &given(&[BOOTSTRAP_SERVERS, CONTACT_POINTS]));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }

        assert_eq!(all.cassandra.contact_points, ["127.0.50.1:9042", "127.0.50.2:9042"]);
        assert_eq!(all.kafka.bootstrap_servers, ["127.0.50.1:9092"]);
        let start = "note: no contact point or broker is configured: using the local cluster at 127.0.50.1:9042, \
                     127.0.50.1:9092 (data in ";
        assert!(text.starts_with(start), "{text}");
        assert_eq!(brokers_given.kafka.bootstrap_servers, ["kafka1:9092"]);
        assert_eq!(partly.unwrap().missing, "no contact point is configured");
        assert_eq!((none, both_given), (None, config()));
    }
}
