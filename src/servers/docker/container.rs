//! What `docker inspect` says of a container, as far as it is of use here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    pub id: String,
    state: State,
    config: Settings,
    host_config: HostSettings,
    network_settings: NetworkSettings,
    mounts: Vec<Mount>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    exit_code: i64,
    health: Option<Health>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    image: String,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    healthcheck: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostSettings {
    memory: i64,
    restart_policy: RestartPolicy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: BTreeMap<String, Network>,
}

#[derive(Debug, Clone, Deserialize)]
struct Network {
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "IPAMConfig")]
    fixed: Option<FixedAddress>,
}

#[derive(Debug, Clone, Deserialize)]
struct FixedAddress {
    #[serde(rename = "IPv4Address")]
    address: Option<Ipv4Addr>,
}

/// A volume or a folder in the container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// The volume's.
    pub name: Option<String>,
    pub destination: String,
}

/// How a container is, for whoever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Healthy; running without a health check; ended well where it is meant to end.
    Ready,
    Waiting,
    /// Ended badly, and nobody starts it again.
    Failed(i64),
}

impl Container {
    /// From the array that `docker inspect` prints.
    pub fn parse(text: &str) -> anyhow::Result<Vec<Self>> {
        serde_json::from_str(text).context("docker inspect prints what is no list of containers")
    }

    /// The service's name in the compose file.
    pub fn service(&self) -> &str {
        self.config.labels.get("com.docker.compose.service").map_or("", String::as_str)
    }

    /// Compose's project, the prefix of its volumes.
    pub fn project(&self) -> &str {
        self.config.labels.get("com.docker.compose.project").map_or("", String::as_str)
    }

    /// As people and `docker ps` write it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    pub fn image(&self) -> &str {
        &self.config.image
    }

    pub fn is_running(&self) -> bool {
        self.state.status == "running"
    }

    /// Its address in the project's network: the fixed one, which it has while it is stopped too.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let network = self.network_settings.networks.values().next()?;
        let fixed = network.fixed.as_ref().and_then(|fixed| fixed.address);
        fixed.or_else(|| network.address.parse().ok())
    }

    /// Variables of its environment whose names `is_meant`.
    pub fn environment(&self, is_meant: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let pairs = self.config.env.iter().filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| is_meant(name)).map(|(name, value)| (name.into(), value.into())).collect()
    }

    pub fn healthcheck(&self) -> Option<&Value> {
        self.config.healthcheck.as_ref()
    }

    /// In bytes; 0 where there is no limit.
    pub fn memory_limit(&self) -> i64 {
        self.host_config.memory
    }

    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub fn readiness(&self) -> Readiness {
        let is_restarted =
            matches!(self.host_config.restart_policy.name.as_str(), "always" | "unless-stopped");
        match (self.state.status.as_str(), &self.state.health) {
            ("running", Some(health)) if health.status != "healthy" => Readiness::Waiting,
            // What is meant to end is not ready before it has.
            ("running", _) if is_restarted => Readiness::Ready,
            ("exited", _) if self.state.exit_code == 0 => Readiness::Ready,
            ("exited" | "dead", _)
                if !is_restarted && self.host_config.restart_policy.name != "on-failure" =>
            {
                Readiness::Failed(self.state.exit_code)
            }
            _ => Readiness::Waiting,
        }
    }

    pub fn describe(&self) -> String {
        match &self.state.health {
            Some(health) if self.is_running() => health.status.clone(),
            _ => self.state.status.clone(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn container(service: &str, state: Value, restart: &str) -> Container {
        let value = json!([{
            "Id": "abc",
            "State": state,
            "Config": {
                "Image": "cassandra:5.0.6",
                "Env": ["CASSANDRA_SEEDS=172.28.42.11", "PATH=/bin", "JVM_EXTRA_OPTS=-Da=b -Dc=d"],
                "Labels": { "com.docker.compose.service": service },
                "Healthcheck": { "Test": ["CMD-SHELL", "nodetool status"] },
            },
            "HostConfig": { "Memory": 2_147_483_648_i64, "RestartPolicy": { "Name": restart } },
            "NetworkSettings": { "Networks": { "iotctl_iotctl": {
                "IPAddress": "", "IPAMConfig": { "IPv4Address": "172.28.42.12" }
            } } },
            "Mounts": [
                { "Type": "volume", "Name": "iotctl_cassandra-2", "Destination": "/var/lib/cassandra" },
                { "Type": "volume", "Name": "iotctl_agent", "Destination": "/agent" },
            ],
        }]);
        Container::parse(&value.to_string()).unwrap().remove(0)
    }

    #[test]
    fn a_container_is_read_from_what_the_engine_prints() {
        let stopped =
            container("cassandra-2", json!({ "Status": "exited", "ExitCode": 143 }), "unless-stopped");
        assert_eq!(stopped.service(), "cassandra-2");
        assert_eq!(stopped.address(), Some(Ipv4Addr::new(172, 28, 42, 12)));
        assert_eq!(stopped.environment(|name| name.starts_with("JVM_"))["JVM_EXTRA_OPTS"], "-Da=b -Dc=d");
        assert!(!stopped.is_running());
        assert!(Container::parse("[{}]").is_err());
    }

    #[test]
    fn readiness_knows_services_from_tasks() {
        let readiness = |state: Value, restart| container("x", state, restart).readiness();
        let health = |status| json!({ "Status": "running", "ExitCode": 0, "Health": { "Status": status } });
        let ended = |code| json!({ "Status": "exited", "ExitCode": code });
        let running = json!({ "Status": "running", "ExitCode": 0 });
        assert_eq!(readiness(health("healthy"), "unless-stopped"), Readiness::Ready);
        assert_eq!(readiness(health("starting"), "unless-stopped"), Readiness::Waiting);
        assert_eq!(readiness(running.clone(), "unless-stopped"), Readiness::Ready);
        assert_eq!(readiness(running, "no"), Readiness::Waiting);
        assert_eq!(readiness(ended(0), "on-failure"), Readiness::Ready);
        assert_eq!(readiness(ended(1), "on-failure"), Readiness::Waiting);
        assert_eq!(readiness(ended(1), "no"), Readiness::Failed(1));
        assert_eq!(readiness(ended(1), "unless-stopped"), Readiness::Waiting);
    }
}
