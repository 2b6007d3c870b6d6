//! Looks whether every port that the servers will listen on is free, before the first of them starts.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

use super::Kind;
use super::cluster::{Cluster, KafkaMode, Server};
use crate::config::LocalConfig;

/// An address that a server will listen on, and the setting that moves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    pub server: String,
    pub address: SocketAddr,
    pub setting: &'static str,
}

/// Everything that these servers will listen on.
pub fn needed(config: &LocalConfig, cluster: &Cluster, servers: &[&Server]) -> Vec<Needed> {
    let mut needed = Vec::new();
    for server in servers {
        let mut add = |address: std::net::IpAddr, port, setting| {
            let (server, address) = (server.name.clone(), SocketAddr::new(address, port));
            needed.push(Needed { server, address, setting });
        };
        let ip = server.address.ip();
        match server.kind {
            Kind::Cassandra => {
                add(ip, config.cassandra_port, "local.cassandra_port");
                add(ip, config.cassandra_storage_port, "local.cassandra_storage_port");
                // Cassandra binds JMX to the machine's one loopback address, whatever its own is.
                let jmx = config.cassandra_jmx_port.saturating_add(server.index);
                add(Ipv4Addr::LOCALHOST.into(), jmx, "local.cassandra_jmx_port");
                if cluster.monitoring.is_some() {
                    add(ip, config.cassandra_metrics_port, "local.cassandra_metrics_port");
                }
            }
            Kind::Kafka => {
                add(ip, config.kafka_port, "local.kafka_port");
                if cluster.kafka == KafkaMode::Kraft {
                    add(ip, config.kafka_controller_port, "local.kafka_controller_port");
                }
                if cluster.monitoring.is_some() {
                    add(ip, config.kafka_metrics_port, "local.kafka_metrics_port");
                }
            }
            Kind::Zookeeper => add(ip, config.zookeeper_port, "local.zookeeper_port"),
            Kind::Prometheus => add(ip, config.prometheus_port, "local.prometheus_port"),
            Kind::NodeExporter => add(ip, config.node_exporter_port, "local.node_exporter_port"),
            Kind::Grafana => add(ip, config.grafana_port, "local.grafana_port"),
        }
    }
    needed
}

/// Binds each address for a moment.
///
/// # Errors
/// Names every address that cannot be had, and the setting that changes it.
pub fn check(needed: &[Needed]) -> anyhow::Result<()> {
    let taken: Vec<_> = needed.iter().filter_map(complaint).collect();
    match taken.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("{} ports cannot be had:\n  {}", many.len(), many.join("\n  ")),
    }
}

fn complaint(needed: &Needed) -> Option<String> {
    let Needed { server, address, setting } = needed;
    let error = TcpListener::bind(address).err()?;
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} is taken by another program, and {server} is to listen there (stop that program, or set \
             {setting})"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "{} is no address of this machine, and {server} is to listen there (set local.address, or on macOS: \
             sudo ifconfig lo0 alias {})",
            address.ip(),
            address.ip()
        ),
        ErrorKind::PermissionDenied => {
            format!("{server} may not listen on {address} (set {setting} to a port above 1023)")
        }
        _ => format!("{server} cannot listen on {address}: {error} (set {setting})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_server_and_the_setting_that_changes_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let needed = Needed { server: "kafka".into(), address, setting: "local.kafka_port" };
        let error = check(std::slice::from_ref(&needed)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{address} is taken by another program, and kafka")), "{error}");
        assert!(error.contains("set local.kafka_port"), "{error}");
        drop(holder);
        check(&[needed]).unwrap();
    }

    #[test]
    fn every_node_has_its_own_addresses_and_jmx_port() {
        let cluster = Cluster::fresh(2, KafkaMode::Kraft, Ipv4Addr::LOCALHOST);
        let config = LocalConfig::default();
        let servers = cluster.servers(&config).unwrap();
        let needed = needed(&config, &cluster, &servers.iter().collect::<Vec<_>>());
        let addresses: Vec<_> = needed.iter().map(|needed| needed.address.to_string()).collect();
        assert_eq!(
            addresses,
            [
                "127.0.0.1:9042",
                "127.0.0.1:7000",
                "127.0.0.1:7199",
                "127.0.0.2:9042",
                "127.0.0.2:7000",
                "127.0.0.1:7200",
                "127.0.0.1:9092",
                "127.0.0.1:9093",
            ]
        );
    }
}
