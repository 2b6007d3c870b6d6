//! The nodes: reachability, versions, schema and replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

use super::{Check, Finding, clocks, encryption, failed, failed_by, growth, ok, skipped, warning};
use crate::cassandra::{Session, system};
use crate::config::Config;
use crate::observe::status::{Section, Status};
use crate::output::text::{one_or_many, plural};
use crate::servers::membership::checks::{EVERYWHERE, Keyspace, keyspaces};

const GROUP: &str = "cassandra";
/// How long a node may take for one answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) async fn checks(config: &Config, status: &Status, session: Option<Session>) -> Vec<Check> {
    let check = |name, finding| Check::new(GROUP, name, finding);
    let encryption = check("encryption", encryption::of_cassandra(&config.cassandra));
    let (nodes, session) = match (&status.cassandra, session) {
        (Section::Known(cassandra), Some(session)) => (cassandra, session),
        (Section::Unknown { unknown }, _) => {
            return skip_all(failed_by(unknown), encryption);
        }
        (_, None) => return skip_all(failed_by("the session is closed"), encryption),
    };
    let reach = match nodes.attention().as_slice() {
        [] => ok(one_or_many(nodes.nodes.len(), "node answers", "nodes answer and see each other")),
        unhealthy => failed(unhealthy.join("; "), "see `iotctl node list`"),
    };
    let (versions, clocks, write_times, replication, growth) = tokio::join!(
        versions(&session),
        clocks::clocks(&session),
        clocks::write_times(&session),
        keyspaces(&session),
        growth::growth(config, status, &session),
    );
    let replication = match replication {
        Ok(keyspaces) => judge_replication(config, &keyspaces, &datacenters(&session)),
        Err(error) => failed_by(error),
    };
    let agreement = match nodes.schema_versions {
        Some(1) => ok("all nodes have the same schema version"),
        Some(count) => failed(
            format!("the nodes have {count} different schema versions"),
            "wait until they agree; if they do not, restart the differing node (`nodetool describecluster` names it)",
        ),
        None => skipped("the role may not read the nodes' schema versions"),
    };
    vec![
        check("nodes", reach),
        check("versions", versions),
        check("clocks", clocks),
        check("write times", write_times),
        check("schema agreement", agreement),
        check("schema", schema(status)),
        check("replication", replication),
        check("disk at the TTL", growth),
        encryption,
    ]
}

fn skip_all(why: Finding, encryption: Check) -> Vec<Check> {
    let unreachable = || skipped("Cassandra does not answer");
    let names =
        ["versions", "clocks", "write times", "schema agreement", "schema", "replication", "disk at the TTL"];
    let mut checks = vec![Check::new(GROUP, "nodes", why)];
    checks.extend(names.map(|name| Check::new(GROUP, name, unreachable())));
    checks.push(encryption);
    checks
}

/// Asks each node itself, because gossip may be older.
async fn versions(session: &Session) -> Finding {
    let nodes = session.nodes();
    let asked = nodes.iter().map(|node| system::release_version(session, node.address, ANSWER_TIMEOUT));
    let mut by_version: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for (node, answer) in nodes.iter().zip(join_all(asked).await) {
        if let Ok(Some(version)) = answer {
            by_version.entry(version).or_default().push(node.address);
        }
    }
    judge_versions(&by_version)
}

fn judge_versions(by_version: &BTreeMap<String, Vec<SocketAddr>>) -> Finding {
    let old = by_version.keys().find(|version| {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        !matches!(major, Some(4 | 5))
    });
    let listed: Vec<_> = by_version
        .iter()
        .map(|(version, nodes)| {
            let nodes: Vec<_> = nodes.iter().map(|node| node.ip().to_string()).collect();
            format!("{version} on {}", nodes.join(", "))
        })
        .collect();
    match (by_version.len(), old) {
        (0, _) => skipped("no node answered with its version"),
        (_, Some(old)) => {
            failed(format!("Cassandra {old} is not supported"), "use Cassandra 4.0 to 5.0 on every node")
        }
        (1, None) => ok(format!("Cassandra {}", listed.join("; "))),
        (_, None) => warning(
            listed.join("; "),
            "finish the upgrade, and do not change nodes or tables while versions are mixed",
        ),
    }
}

fn schema(status: &Status) -> Finding {
    match &status.schema {
        Section::Unknown { unknown } => failed_by(unknown),
        Section::Known(schema) => {
            let differing = schema.objects.iter().filter(|object| object.state == "differs");
            let differing: Vec<_> =
                differing.map(|object| format!("{}: {}", object.name, object.details.join(", "))).collect();
            let missing = schema.missing();
            let mut found = differing;
            match missing.contains(&schema.keyspace.as_str()) {
                true => found.push(format!("keyspace {} does not exist", schema.keyspace)),
                false => found.extend(missing.iter().map(|name| format!("{name} is missing"))),
            }
            match (found.is_empty(), missing.is_empty()) {
                (true, _) => ok(format!("keyspace {} matches schema.cql", schema.keyspace)),
                (false, false) => failed(found.join("; "), "run `iotctl schema apply`"),
                (false, true) => failed(
                    found.join("; "),
                    "run `iotctl schema apply --dry-run`, which prints what to do about it",
                ),
            }
        }
    }
}

/// Number of nodes by datacenter, reachable or not.
fn datacenters(session: &Session) -> BTreeMap<String, usize> {
    let mut datacenters = BTreeMap::new();
    for node in session.nodes() {
        *datacenters.entry(node.datacenter).or_insert(0) += 1;
    }
    datacenters
}

fn judge_replication(
    config: &Config,
    keyspaces: &[Keyspace],
    datacenters: &BTreeMap<String, usize>,
) -> Finding {
    let name = &config.cassandra.keyspace;
    let Some(keyspace) = keyspaces.iter().find(|keyspace| keyspace.name == *name) else {
        return skipped(format!("keyspace {name} does not exist, or is local to each node"));
    };
    let all: usize = datacenters.values().sum();
    let mut notes = BTreeSet::new();
    for (datacenter, &factor) in &keyspace.factors {
        let (nodes, place) = match datacenter.as_str() {
            EVERYWHERE => (all, "the cluster".to_owned()),
            name => (datacenters.get(name).copied().unwrap_or(0), format!("datacenter {name}")),
        };
        if factor > nodes {
            return failed(
                format!(
                    "keyspace {name} needs {} and {place} has {}",
                    plural(factor, "replica"),
                    plural(nodes, "node")
                ),
                format!(
                    "add nodes, or lower the replication factor: ALTER KEYSPACE {name} WITH replication, and schema.replication_factor"
                ),
            );
        }
        match factor {
            0 | 1 => notes.insert(format!(
                "{place} keeps 1 copy: while its node is down, readings can neither be written nor read"
            )),
            2 => notes
                .insert(format!("{place} keeps 2 copies: LOCAL_QUORUM needs both, so no node may be down")),
            _ => true,
        };
    }
    let factors: Vec<_> = keyspace
        .factors
        .iter()
        .map(|(datacenter, factor)| match datacenter.as_str() {
            EVERYWHERE => {
                format!("{} on {}", one_or_many(*factor, "copy", "copies"), plural(all, "node"))
            }
            name => format!("{} in {name}", one_or_many(*factor, "copy", "copies")),
        })
        .collect();
    match notes.is_empty() {
        true => ok(format!("{}; LOCAL_QUORUM works with one node down", factors.join(", "))),
        false => warning(
            notes.into_iter().collect::<Vec<_>>().join("; "),
            "keep 3 copies on 3 nodes or more (`iotctl node add`, schema.replication_factor, then `nodetool repair -full`)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn keyspace(datacenter: &str, factor: usize) -> Keyspace {
        Keyspace {
            name: Config::default().cassandra.keyspace,
            factors: [(datacenter.to_owned(), factor)].into(),
        }
    }

    fn replication(datacenter: &str, factor: usize, nodes: usize) -> Finding {
        let datacenters = [("dc1".to_owned(), nodes)].into();
        judge_replication(&Config::default(), &[keyspace(datacenter, factor)], &datacenters)
    }

    #[test]
    fn replicas_beyond_the_nodes_fail_and_too_few_for_a_node_down_warn() {
        assert_eq!(replication(EVERYWHERE, 3, 3).0, Verdict::Ok);
        assert_eq!(replication("dc1", 3, 3).0, Verdict::Ok);
        assert_eq!(replication(EVERYWHERE, 3, 2).0, Verdict::Failed);
        assert_eq!(replication("dc2", 1, 3).0, Verdict::Failed);
        assert_eq!(replication(EVERYWHERE, 1, 3).0, Verdict::Warning);
        assert_eq!(replication("dc1", 2, 3).0, Verdict::Warning);
        let none = judge_replication(&Config::default(), &[], &BTreeMap::new());
        assert_eq!(none.0, Verdict::Skipped);
    }

    #[test]
    fn mixed_versions_warn_and_an_old_one_fails() {
        let node: SocketAddr = "127.0.0.1:9042".parse().unwrap();
        let verdict = |versions: &[&str]| {
            let by_version = versions.iter().map(|version| ((*version).to_owned(), vec![node])).collect();
            judge_versions(&by_version).0
        };
        assert_eq!(verdict(&["5.0.6"]), Verdict::Ok);
        assert_eq!(verdict(&["4.1.3", "5.0.6"]), Verdict::Warning);
        assert_eq!(verdict(&["3.11.4"]), Verdict::Failed);
        assert_eq!(verdict(&[]), Verdict::Skipped);
    }
}
