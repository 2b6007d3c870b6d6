//! The nodes: versions, clocks, schema, replicas, encryption, and whether the disk takes what the TTL keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use futures::future::join_all;

use super::machine::is_loopback;
use super::{Check, Finding, failed, failed_by, ok, skipped, warning};
use crate::cassandra::{Error, Session};
use crate::config::Config;
use crate::kafka::{consumer_groups, retention, topics};
use crate::observe::exporter::cassandra::{DISK, Watch};
use crate::observe::status::{LocalDisk, Section, Status};
use crate::servers::membership::checks::{EVERYWHERE, Keyspace, keyspaces};

const GROUP: &str = "cassandra";
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// Above it, readings seem to come from the future and TTLs end at another time; and far above it, everything does.
const SKEW_WARNING: Duration = Duration::from_millis(500);
const SKEW_FAILED: Duration = Duration::from_secs(5);
/// Sizes come in steps of a MiB, and what is in memory is not in them.
const LEAST_MEASURED: f64 = 32.0 * 1024.0 * 1024.0;
const TABLE: &str = "iot_sensor_metrics";

pub async fn checks(config: &Config, status: &Status, session: Option<Session>) -> Vec<Check> {
    let check = |name, finding| Check::new(GROUP, name, finding);
    let encryption = check("encryption", encryption(config));
    let (nodes, session) = match (&status.cassandra, session) {
        (Section::Known(cassandra), Some(session)) => (cassandra, session),
        (Section::Unknown { unknown }, _) => {
            return skip_all(failed_by(unknown), encryption);
        }
        (_, None) => return skip_all(failed_by("the session is gone"), encryption),
    };
    let reach = match nodes.attention().as_slice() {
        [] => ok(format!("{} nodes answer and hear each other", nodes.nodes.len())),
        ill => failed(ill.join("; "), "see `iotctl node list`"),
    };
    let (versions, clocks, replication, growth) = tokio::join!(
        versions(&session),
        clocks(&session),
        keyspaces(&session),
        growth(config, status, &session),
    );
    let replication = match replication {
        Ok(keyspaces) => judge_replication(config, &keyspaces, &datacenters(&session)),
        Err(error) => failed_by(error),
    };
    let agreement = match nodes.schema_versions {
        Some(1) => ok("all nodes have one version of the schema"),
        Some(count) => failed(
            format!("the nodes have {count} versions of the schema"),
            "wait until they agree; if they do not, restart the node that differs (`nodetool describecluster`)",
        ),
        None => skipped("the nodes' versions of the schema may not be read"),
    };
    vec![
        check("nodes", reach),
        check("versions", versions),
        check("clocks", clocks),
        check("schema agreement", agreement),
        check("schema", schema(status)),
        check("replication", replication),
        check("disk at the TTL", growth),
        encryption,
    ]
}

fn skip_all(why: Finding, encryption: Check) -> Vec<Check> {
    let away = || skipped("Cassandra does not answer");
    let names = ["versions", "clocks", "schema agreement", "schema", "replication", "disk at the TTL"];
    let mut checks = vec![Check::new(GROUP, "nodes", why)];
    checks.extend(names.map(|name| Check::new(GROUP, name, away())));
    checks.push(encryption);
    checks
}

/// Each node by its own word: gossip may be older.
async fn versions(session: &Session) -> Finding {
    const CQL: &str = "SELECT release_version FROM system.local WHERE key = 'local'";
    let nodes = session.nodes();
    let asked = nodes.iter().map(|node| session.query_at(node.address, CQL, ANSWER_DEADLINE));
    let mut by_version: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for (node, answer) in nodes.iter().zip(join_all(asked).await) {
        let version = answer.ok().and_then(|rows| rows.first().and_then(|row| row.get::<String>(0).ok()));
        if let Some(version) = version {
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
        (0, _) => skipped("no node told its version"),
        (_, Some(old)) => {
            failed(format!("Cassandra {old} is not supported"), "use Cassandra 4.0 to 5.0 on every node")
        }
        (1, None) => ok(format!("Cassandra {}", listed.join("; "))),
        (_, None) => warning(
            listed.join("; "),
            "finish the upgrade: add, remove or alter nothing while versions are mixed",
        ),
    }
}

/// How far a node's clock is ahead of this machine's, and how exactly that is known.
#[derive(Debug, Clone, Copy)]
struct Skew {
    milliseconds: i64,
    uncertainty: i64,
}

/// The clock of each node beside the middle of the shortest of some round trips.
async fn clocks(session: &Session) -> Finding {
    let nodes = session.nodes();
    let measured = join_all(nodes.iter().map(|node| clock(session, node.address))).await;
    let known: Vec<_> =
        nodes.iter().zip(measured).filter_map(|(node, skew)| Some((node.address, skew?))).collect();
    judge_clocks(&known)
}

async fn clock(session: &Session, node: SocketAddr) -> Option<Skew> {
    const CQL: &str = "SELECT toTimestamp(now()) FROM system.local WHERE key = 'local'";
    let mut best: Option<Skew> = None;
    for _ in 0..4 {
        let (started, before) = (Instant::now(), chrono::Utc::now().timestamp_millis());
        let rows = session.query_at(node, CQL, ANSWER_DEADLINE).await.ok()?;
        let round_trip = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let theirs: i64 = rows.first()?.get(0).ok()?;
        // They have milliseconds and no more.
        let uncertainty = round_trip / 2 + 1;
        if best.is_none_or(|best| uncertainty < best.uncertainty) {
            best = Some(Skew { milliseconds: theirs - (before + round_trip / 2), uncertainty });
        }
    }
    best
}

fn judge_clocks(nodes: &[(SocketAddr, Skew)]) -> Finding {
    let Some((node, worst)) = nodes.iter().max_by_key(|(_, skew)| skew.milliseconds.abs()) else {
        return skipped("no node told its time");
    };
    let direction = if worst.milliseconds < 0 { "behind" } else { "ahead of" };
    let found = format!(
        "at most {} ms apart: {} is {direction} this machine by that (± {} ms)",
        worst.milliseconds.abs(),
        node.ip(),
        worst.uncertainty
    );
    let certain = Duration::from_millis((worst.milliseconds.abs() - worst.uncertainty).max(0).unsigned_abs());
    let remedy = "run chrony or another NTP client on every machine";
    match certain {
        certain if certain > SKEW_FAILED => failed(found, remedy),
        certain if certain > SKEW_WARNING => warning(found, remedy),
        _ => ok(found),
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
                (true, _) => ok(format!("keyspace {} is as schema.cql has it", schema.keyspace)),
                (false, false) => failed(found.join("; "), "run `iotctl schema apply`"),
                (false, true) => {
                    failed(found.join("; "), "`iotctl schema apply --dry-run` says what to do about it")
                }
            }
        }
    }
}

/// Nodes by datacenter, up or down.
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
        return skipped(format!("keyspace {name} does not exist, or each node has its own"));
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
                format!("keyspace {name} wants {factor} replicas and {place} has {nodes} nodes"),
                format!(
                    "add nodes, or lower it: ALTER KEYSPACE {name} WITH replication, and schema.replication_factor"
                ),
            );
        }
        match factor {
            0 | 1 => notes.insert(format!(
                "{place} keeps 1 copy: with its node down, readings can neither be written nor read"
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
            EVERYWHERE => format!("{factor} copies on {all} nodes"),
            name => format!("{factor} copies in {name}"),
        })
        .collect();
    match notes.is_empty() {
        true => ok(format!("{}; LOCAL_QUORUM survives one node that is down", factors.join(", "))),
        false => warning(
            notes.into_iter().collect::<Vec<_>>().join("; "),
            "keep 3 copies on 3 nodes or more (`iotctl node add`, schema.replication_factor, then `nodetool repair -full`)",
        ),
    }
}

/// Passwords and readings that leave this machine in the clear.
fn encryption(config: &Config) -> Finding {
    let cassandra = &config.cassandra;
    let remote: Vec<_> =
        cassandra.contact_points.iter().filter(|point| !is_loopback(point)).cloned().collect();
    match (cassandra.tls.enabled, cassandra.password.is_some(), remote.is_empty()) {
        (true, _, _) => ok("TLS"),
        (false, _, true) => ok("plain, and it does not leave this machine"),
        (false, true, false) => failed(
            format!("the password goes to {} in the clear", remote.join(", ")),
            "set cassandra.tls.enabled",
        ),
        (false, false, false) => warning(
            format!("readings go to {} in the clear, without a password", remote.join(", ")),
            "set cassandra.tls.enabled and cassandra.username (docs/security.md)",
        ),
    }
}

/// What the growth of the readings is estimated from.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// Of all nodes together, with all copies.
    table_bytes: f64,
    /// Messages that were ever committed.
    messages: f64,
    /// Messages that came in the last stretch of time, and how long that is.
    recent: f64,
    recent_seconds: f64,
    ttl_seconds: f64,
}

/// An hour is long enough for a rate and short enough to be the present one.
const RECENT: Duration = Duration::from_secs(3600);

async fn growth(config: &Config, status: &Status, session: &Session) -> Finding {
    let ttl = match ttl(session).await {
        Ok(Some(0)) => {
            return warning(
                "the readings have no TTL: they are kept for ever",
                "run `iotctl schema apply --alter-options` with schema.ttl set",
            );
        }
        Ok(Some(ttl)) => ttl,
        Ok(None) => return skipped("there is no table of readings yet"),
        Err(error) => return failed_by(error),
    };
    let mut watch = Watch::over(session.clone(), &config.cassandra, ANSWER_DEADLINE);
    let (sheet, _) = watch.look().await;
    let is_readings = |labels: &[&str]| labels[1] == config.cassandra.keyspace && labels[2] == TABLE;
    let sizes: Vec<_> = sheet.values(&DISK).into_iter().filter(|(labels, _)| is_readings(labels)).collect();
    if sizes.is_empty() {
        return skipped("the tables' sizes may not be read (GRANT SELECT ON KEYSPACE system_views)");
    }
    let table_bytes = sizes.iter().map(|(_, bytes)| bytes).sum();
    match messages(config, table_bytes, f64::from(ttl)).await {
        Ok(growth) => judge_growth(growth, status.disk.as_ref()),
        Err(error) => skipped(format!("the rate of messages is not known: {error}")),
    }
}

async fn messages(
    config: &Config,
    table_bytes: f64,
    ttl_seconds: f64,
) -> Result<Growth, crate::kafka::Error> {
    let kafka = &config.kafka;
    let watermarks = topics::watermarks(kafka, &kafka.topic).await?;
    let partitions = i32::try_from(watermarks.len()).unwrap_or(i32::MAX);
    let since = chrono::Utc::now().timestamp_millis() - i64::try_from(RECENT.as_millis()).unwrap_or(i64::MAX);
    let begun = retention::offsets_since(kafka, &kafka.topic, partitions, since).await?;
    let committed = consumer_groups::committed(kafka, &kafka.topic, partitions).await?;
    let recent = watermarks.iter().zip(&begun).map(|((_, end), begun)| begun.map_or(0, |begun| end - begun));
    Ok(Growth {
        table_bytes,
        messages: committed.iter().flatten().sum::<i64>() as f64,
        recent: recent.sum::<i64>() as f64,
        recent_seconds: RECENT.as_secs_f64(),
        ttl_seconds,
    })
}

async fn ttl(session: &Session) -> Result<Option<i32>, Error> {
    let keyspace = session.keyspace();
    let cql = format!(
        "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = '{TABLE}'"
    );
    Ok(session.query(&cql).await?.first().map(|row| row.get(0)).transpose()?)
}

/// An estimate, and said as one: at the rate of the last hour, with the present bytes a message.
fn judge_growth(growth: Growth, disk: Option<&LocalDisk>) -> Finding {
    let size = |bytes: f64| ByteSize::b(bytes as u64).display().iec().to_string();
    if growth.table_bytes < LEAST_MEASURED || growth.messages < 1.0 {
        return skipped(format!(
            "the readings take {} on disk: too little to tell what a reading takes",
            size(growth.table_bytes)
        ));
    }
    if growth.recent < 1.0 {
        return skipped("no messages came in the last hour: there is no rate to go by");
    }
    let a_message = growth.table_bytes / growth.messages;
    let a_second = growth.recent / growth.recent_seconds * a_message;
    let at_ttl = a_second * growth.ttl_seconds;
    let found = format!(
        "about {} a day, {} once the TTL of {:.0} days takes away as much as comes (an estimate: {:.0} bytes a message \
         with all copies, at the rate of the last hour)",
        size(a_second * 86_400.0),
        size(at_ttl),
        growth.ttl_seconds / 86_400.0,
        a_message
    );
    let Some(disk) = disk else {
        return skipped(format!("{found}; compare it with the nodes' disks, which CQL does not tell"));
    };
    let room = disk.disk.free_bytes as f64 + growth.table_bytes;
    let remedy = "lower schema.ttl (`iotctl schema apply --alter-options`), add disk or nodes, or send less";
    let days = (disk.disk.free_bytes as f64 / a_second / 86_400.0).floor();
    match at_ttl {
        at_ttl if at_ttl > room => failed(
            format!("{found}; {} are free, which lasts {days} days", size(disk.disk.free_bytes as f64)),
            remedy,
        ),
        // Compaction needs room for what it writes anew.
        at_ttl if at_ttl > room * 0.7 => {
            warning(format!("{found}; {} are free", size(disk.disk.free_bytes as f64)), remedy)
        }
        _ => ok(format!("{found}; {} are free", size(disk.disk.free_bytes as f64))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::servers::local::disk::Disk;

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
    fn a_clock_is_judged_by_what_is_certain_of_it() {
        let verdict = |milliseconds, uncertainty| {
            let node = "127.0.0.1:9042".parse().unwrap();
            judge_clocks(&[(node, Skew { milliseconds, uncertainty })]).0
        };
        assert_eq!(verdict(400, 1), Verdict::Ok);
        assert_eq!(verdict(-700, 1), Verdict::Warning);
        // A slow answer is no wrong clock.
        assert_eq!(verdict(700, 400), Verdict::Ok);
        assert_eq!(verdict(-60_000, 100), Verdict::Failed);
        assert_eq!(judge_clocks(&[]).0, Verdict::Skipped);
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

    #[test]
    fn the_disk_at_the_ttl_is_judged_by_the_present_rate_and_size_of_a_message() {
        // 100 bytes a message and 1,000 a second: 8.64 GB a day, 86.4 GB in 10 days.
        let growth = Growth {
            table_bytes: 1e9,
            messages: 1e7,
            recent: 3_600_000.0,
            recent_seconds: 3600.0,
            ttl_seconds: 864_000.0,
        };
        let judged = |free_bytes| {
            let disk = Disk { free_bytes, total_bytes: 1 << 40 };
            let disk = LocalDisk { folder: "/d".into(), disk, least_free_bytes: 0 };
            judge_growth(growth, Some(&disk))
        };
        assert_eq!(judged(200_000_000_000).0, Verdict::Ok);
        assert_eq!(judged(100_000_000_000).0, Verdict::Warning);
        let (verdict, found, _) = judged(43_200_000_000);
        assert_eq!(verdict, Verdict::Failed);
        assert!(found.contains("lasts 5 days") && found.contains("estimate"), "{found}");
        assert_eq!(judge_growth(growth, None).0, Verdict::Skipped);
        assert_eq!(judge_growth(Growth { table_bytes: 1e6, ..growth }, None).0, Verdict::Skipped);
    }

    #[test]
    fn a_password_in_the_clear_to_another_machine_fails() {
        let mut config = Config::default();
        assert_eq!(encryption(&config).0, Verdict::Ok);
        config.cassandra.contact_points = vec!["10.0.0.1:9042".into()];
        assert_eq!(encryption(&config).0, Verdict::Warning);
        config.cassandra.password = Some(crate::config::Secret::new("hidden"));
        let (verdict, found, _) = encryption(&config);
        assert!(verdict == Verdict::Failed && !found.contains("hidden"), "{found}");
        config.cassandra.tls.enabled = true;
        assert_eq!(encryption(&config).0, Verdict::Ok);
    }
}
