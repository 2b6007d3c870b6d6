//! Where the clients of the local cluster connect.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Kind;
use super::cluster::Cluster;
use super::layout::Layout;
use super::process::Process;
use crate::config::LocalConfig;

/// The servers of a data directory that run. One of the lists may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub data_dir: PathBuf,
    pub cassandra: Vec<SocketAddr>,
    pub kafka: Vec<SocketAddr>,
}

/// The running servers of the data directory; `None` if none runs, or if there is no such directory. No server is asked.
pub fn running(config: &LocalConfig) -> Option<Addresses> {
    // A user without a home directory has no local cluster either.
    let layout = Layout::of(config).ok().filter(Layout::is_ours)?;
    let processes = Process::all(&layout)
        .inspect_err(|error| tracing::debug!("the pid files of the local cluster cannot be read: {error:#}"))
        .ok()?;
    let addresses = |kind| {
        let of_kind = processes.iter().filter(|process| process.kind == kind && process.is_alive());
        of_kind.map(|process| process.address).collect::<Vec<_>>()
    };
    let (cassandra, kafka) = (addresses(Kind::Cassandra), addresses(Kind::Kafka));
    let runs = !cassandra.is_empty() || !kafka.is_empty();
    runs.then(|| Addresses { data_dir: layout.root().to_owned(), cassandra, kafka })
}

/// Where the first node of the data directory's cluster listens when it runs, or would listen if one were started.
pub fn first_node(config: &LocalConfig) -> SocketAddr {
    let known = Layout::of(config).ok().and_then(|layout| Cluster::load(&layout).ok().flatten());
    let address = known.map_or(config.address, |cluster| cluster.address);
    SocketAddr::from((address, config.cassandra_port))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::cluster::KafkaMode;
    use super::super::process::spawn;
    use super::*;

    #[test]
    fn only_servers_that_run_have_clients() {
        let dir = tempfile::tempdir().unwrap();
        let config = LocalConfig { data_dir: Some(dir.path().to_owned()), ..Default::default() };
        assert_eq!(running(&config), None);
        let layout = Layout::of(&config).unwrap();
        layout.create().unwrap();
        Cluster::fresh(1, KafkaMode::Kraft, [127, 0, 0, 9].into()).save(&layout).unwrap();
        assert_eq!(running(&config), None);
        assert_eq!(first_node(&config), "127.0.0.9:9042".parse().unwrap());
        let node: SocketAddr = "127.0.0.9:19042".parse().unwrap();
        let (_, mut child) =
            spawn(&layout, "cassandra-1", Kind::Cassandra, node, Command::new("sleep").arg("60")).unwrap();
        let found = running(&config).unwrap();
        assert_eq!((found.cassandra, found.kafka), (vec![node], Vec::new()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(running(&config), None);
    }
}
