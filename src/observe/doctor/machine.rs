//! This machine: what `iotctl up` needs, its ports, its disk, and unfinished operations.

use std::net::IpAddr;

use super::{Check, Finding, failed, failed_by, ok, skipped, warning};
use crate::config::{Config, LocalConfig};
use crate::observe::status::{LocalDisk, Status};
use crate::servers::local::cluster::{Cluster, KafkaMode};
use crate::servers::local::layout::Layout;
use crate::servers::local::{State, jars, java, ports};

pub(super) async fn checks(config: &Config, status: &Status) -> Vec<Check> {
    let is_local = is_local(config) || !status.local.is_empty();
    let check = |name, finding| Check::new("machine", name, finding);
    let (java, jars) = match is_local {
        true => (java().await, jars(&config.local)),
        false => {
            let elsewhere = || skipped("the servers are on other machines");
            (elsewhere(), elsewhere())
        }
    };
    let ports = match is_local {
        true => ports(&config.local, status),
        false => skipped("the servers are on other machines"),
    };
    vec![
        check("java", java),
        check("jars", jars),
        check("ports", ports),
        check("processes", processes(status)),
        check("disk", disk(status.disk.as_ref())),
        check("membership", membership(status)),
    ]
}

/// Whether the configured servers are on this machine.
fn is_local(config: &Config) -> bool {
    let servers = config.cassandra.contact_points.iter().chain(&config.kafka.bootstrap_servers);
    servers.into_iter().any(|server| is_loopback(server))
}

/// Whether `host`, `host:port` or `[v6]:port` is a loopback address.
pub(super) fn is_loopback(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn java() -> Finding {
    match java::find(&java::Places::of_this_machine()).await {
        Ok(java) => ok(format!("Java {} at {}", java.version, java.program.display())),
        Err(error) => failed_by(format!("{error:#}")),
    }
}

fn jars(config: &LocalConfig) -> Finding {
    let cache = match crate::servers::local::layout::cache_dir(config) {
        Ok(cache) => cache,
        Err(error) => return failed_by(format!("{error:#}")),
    };
    let missing: Vec<_> = [&jars::CASSANDRA, &jars::KAFKA]
        .into_iter()
        .filter(|jars| !jars.folder(&cache).is_dir())
        .map(|jars| jars.title)
        .collect();
    match (missing.is_empty(), jars::find_maven()) {
        (true, _) => ok(format!("Cassandra and Kafka are in {}", cache.display())),
        (false, Some(maven)) => {
            ok(format!("`iotctl up` will download {} with {}", missing.join(" and "), maven.display()))
        }
        (false, None) => failed(
            format!("{} must be downloaded, and `mvn` is not on the PATH", missing.join(" and ")),
            "install Maven, for example with `apt install maven` or `brew install maven`",
        ),
    }
}

/// Ports that the servers need and another program uses.
fn ports(config: &LocalConfig, status: &Status) -> Finding {
    let layout = match Layout::of(config) {
        Ok(layout) => layout,
        Err(error) => return failed_by(format!("{error:#}")),
    };
    let cluster = match Cluster::load(&layout) {
        Ok(cluster) => cluster.unwrap_or_else(|| Cluster::fresh(1, KafkaMode::Kraft, config.address)),
        Err(error) => return failed_by(format!("{error:#}")),
    };
    let servers = match cluster.servers(config) {
        Ok(servers) => servers,
        Err(error) => return failed_by(format!("{error:#}")),
    };
    let runs = |name: &str| {
        let alive = |state| matches!(state, State::Running | State::Silent);
        status.local.iter().any(|server| server.server == name && alive(server.state))
    };
    let (ours, idle): (Vec<_>, Vec<_>) = servers.iter().partition(|server| runs(&server.name));
    let needed = ports::needed(config, &cluster, &idle);
    // Where the configured servers answer, `up` is not needed.
    let is_served = status.cassandra.known().is_some() && status.kafka.known().is_some();
    match ports::check(&needed) {
        Ok(()) if ours.is_empty() => ok(format!("all {} are free", needed.len())),
        Ok(()) => ok(format!("{} running servers use theirs, {} are free", ours.len(), needed.len())),
        Err(_) if ours.is_empty() && is_served => {
            skipped("the servers that answer there were not started by `iotctl up`")
        }
        Err(error) => {
            let text = format!("{error:#}").lines().map(str::trim).collect::<Vec<_>>().join("; ");
            failed_by(text)
        }
    }
}

fn processes(status: &Status) -> Finding {
    if status.local.is_empty() {
        return skipped("`iotctl up` has not started any server here");
    }
    let named = |state| {
        let servers = status.local.iter().filter(|server| server.state == state);
        servers.map(|server| server.server.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (crashed, silent, stopped) = (named(State::Crashed), named(State::Silent), named(State::Stopped));
    match (crashed.as_str(), silent.as_str(), stopped.as_str()) {
        ("", "", "") => ok(format!("{} running and answering", status.local.len())),
        ("", "", stopped) => warning(format!("{stopped} stopped"), "start it again with `iotctl up`"),
        ("", silent, _) => {
            warning(format!("{silent} runs and does not answer"), "it may still be starting; see its log")
        }
        (crashed, _, _) => failed(
            format!("{crashed} crashed"),
            "see its log (`iotctl status` names it), then start it again with `iotctl up`",
        ),
    }
}

fn disk(disk: Option<&LocalDisk>) -> Finding {
    let Some(disk) = disk else {
        return skipped("no local servers, and CQL does not report a node's free disk space");
    };
    let free = bytesize::ByteSize::b(disk.disk.free_bytes).display().iec();
    let found = format!("{free} free at {}", disk.folder.display());
    if disk.is_short() {
        failed(
            found,
            "free disk space, lower schema.ttl, move local.data_dir, or lower local.least_free_disk",
        )
    } else if disk.is_soon_short() {
        warning(
            found,
            "free disk space soon: compaction needs some, and Cassandra stops when the disk is full",
        )
    } else {
        ok(found)
    }
}

fn membership(status: &Status) -> Finding {
    match status.due.as_slice() {
        [] => ok("no unfinished operation on the nodes, no cleanup due"),
        due => warning(due.join("; "), "run the command named for each"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::servers::local::disk::Disk;

    #[test]
    fn loopback_is_known_with_and_without_a_port() {
        for server in ["localhost", "localhost:9042", "127.0.51.1:9042", "[::1]:9042"] {
            assert!(is_loopback(server), "{server}");
        }
        for server in ["kafka1.example:9092", "10.0.0.1:9042", "10.0.0.1"] {
            assert!(!is_loopback(server), "{server}");
        }
    }

    #[test]
    fn a_disk_fails_below_the_configured_size_and_warns_below_twice_that() {
        let verdict = |free_bytes| {
            let bytes = Disk { free_bytes, total_bytes: 100 };
            disk(Some(&LocalDisk { folder: "/d".into(), disk: bytes, least_free_bytes: 10 })).0
        };
        assert_eq!(
            [9, 10, 19, 20].map(verdict),
            [Verdict::Failed, Verdict::Warning, Verdict::Warning, Verdict::Ok]
        );
        assert_eq!(disk(None).0, Verdict::Skipped);
    }
}
