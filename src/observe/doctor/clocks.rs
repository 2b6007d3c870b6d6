//! The nodes' clocks beside this machine's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::cassandra::ANSWER_TIMEOUT;
use super::{Finding, failed, ok, skipped, warning};
use crate::cassandra::{Session, system};

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
    }
}
