//! The clocks of the nodes and of the writers, compared with this machine's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::cassandra::ANSWER_TIMEOUT;
use super::{Finding, failed, ok, skipped, warning};
use crate::cassandra::{Error, Session, system};
use crate::store::{groups, purge};

/// Beyond this, fresh readings appear to come from the future and TTLs end at a visibly wrong time.
const SKEW_WARNING: Duration = Duration::from_millis(500);
/// Beyond this, readings are refused and newer writes lose against older ones.
const SKEW_FAILED: Duration = Duration::from_secs(5);

/// How far a node's clock is ahead of this machine's, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Skew {
    milliseconds: i64,
    /// Half of the round trip, and the milliseconds that a node's answer is rounded to.
    uncertainty: i64,
}

/// Compares the clock of each node with the middle of the shortest of four round trips.
pub(super) async fn clocks(session: &Session) -> Finding {
    let nodes = session.nodes();
    let measured = join_all(nodes.iter().map(|node| clock(session, node.address))).await;
    let known: Vec<_> =
        nodes.iter().zip(measured).filter_map(|(node, skew)| Some((node.address, skew?))).collect();
    judge_clocks(&known)
}

async fn clock(session: &Session, node: SocketAddr) -> Option<Skew> {
    let mut best: Option<Skew> = None;
    for _ in 0..4 {
        let (started, before) = (Instant::now(), chrono::Utc::now().timestamp_millis());
        let theirs = system::clock(session, node, ANSWER_TIMEOUT).await.ok()??;
        let round_trip = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let uncertainty = round_trip / 2 + 1;
        if best.is_none_or(|best| uncertainty < best.uncertainty) {
            best = Some(Skew { milliseconds: theirs - (before + round_trip / 2), uncertainty });
        }
    }
    best
}

fn judge_clocks(nodes: &[(SocketAddr, Skew)]) -> Finding {
    let Some((node, worst)) = nodes.iter().max_by_key(|(_, skew)| skew.milliseconds.abs()) else {
        return skipped("no node answered with its time");
    };
    let direction = if worst.milliseconds < 0 { "behind" } else { "ahead of" };
    let found = format!(
        "at most {} ms of difference: {} is {direction} this machine (± {} ms)",
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

/// Groups, partitions of each and rows of each partition whose times of writing are compared.
const GROUPS: usize = 20;
const PARTITIONS: usize = 2;
const ROWS: u32 = 200;

/// Compares the times of writing of some of the newest rows with this machine's clock. Rows that a fast clock wrote
/// survive deletions and newer writes until then.
pub(super) async fn write_times(session: &Session) -> Finding {
    let newest = match newest_write(session).await {
        Ok(Some(newest)) => newest,
        Ok(None) => return skipped("no reading is stored yet"),
        Err(error) => return skipped(format!("the times of writing cannot be read: {error}")),
    };
    judge_write_time((newest - chrono::Utc::now().timestamp_micros()) / 1000)
}

async fn newest_write(session: &Session) -> Result<Option<i64>, Error> {
    let mut newest = None;
    for group in groups::groups(session).await?.into_iter().take(GROUPS).map(Arc::new) {
        let partitions = groups::partitions(session, &group, i64::MIN, i64::MAX).await?;
        // The first bucket, too: an import or a replay writes old readings now.
        let oldest = partitions.last().into_iter();
        for partition in partitions.iter().take(PARTITIONS).chain(oldest) {
            newest = newest.max(purge::newest_write(session, partition, Some(ROWS)).await?);
        }
    }
    Ok(newest)
}

fn judge_write_time(ahead: i64) -> Finding {
    let limit = i64::try_from(SKEW_FAILED.as_millis()).unwrap_or(i64::MAX);
    match ahead {
        ahead if ahead > limit => warning(
            format!("some rows were written {} s ahead of this machine's clock", ahead / 1000),
            "run chrony or another NTP client where `iotctl ingest` and imports run; `iotctl purge` deletes such rows up \
             to a day ahead",
        ),
        _ => ok("no row of the sample was written ahead of this machine's clock"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_is_certain_of_it() {
        let verdict = |milliseconds, uncertainty| {
            let node = "127.0.0.1:9042".parse().unwrap();
            judge_clocks(&[(node, Skew { milliseconds, uncertainty })]).0
        };
        assert_eq!(verdict(400, 1), Verdict::Ok);
        assert_eq!(verdict(-700, 1), Verdict::Warning);
        // A slow answer does not prove a wrong clock.
        assert_eq!(verdict(700, 400), Verdict::Ok);
        assert_eq!(verdict(-60_000, 100), Verdict::Failed);
        assert_eq!(judge_clocks(&[]).0, Verdict::Skipped);
        assert_eq!(judge_write_time(-1).0, Verdict::Ok);
        assert_eq!(judge_write_time(600_000).0, Verdict::Warning);
    }
}
