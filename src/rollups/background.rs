//! Rollups beside other work: what is due is computed in rounds, which pause while their host is behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::due::{Due, Scope};
use crate::cassandra::{Error, Session};
use crate::config::Config;
use crate::reading::Group;
use crate::rollups::writer::{Done, Leased, RollupError, RollupWriter};
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::time::TimeRange;
use crate::time::{DAY, HOUR};

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Number of rounds from one search of all time for missing rollups to the next. The other rounds search the last days.
/// Every round finds the hours with dirty markers.
const ROUNDS_BETWEEN_FULL: u64 = 240;
const RECENT: i64 = 2 * DAY;
/// How long a round is postponed while the host is behind. Afterwards rollups are computed slowly, because a host that is
/// always behind would never compute any.
const MAX_POSTPONEMENT: Duration = Duration::from_secs(600);
/// The pause after a piece of work, in multiples of the time that it took: while the host is behind, and otherwise.
const PAUSE_WHEN_BEHIND: u32 = 30;
const PAUSE: u32 = 1;

/// Computes rollups until `shutdown`. Failures are reported and retried in the next round; a missing rollup loses nothing.
/// `is_behind` returns whether other work needs the servers more. `done` is called after each piece of work.
pub async fn run(
    session: Session,
    config: Config,
    shutdown: Shutdown,
    is_behind: impl Fn() -> bool,
    done: impl Fn(Result<Done, ()>),
) {
    let mut round = 0;
    let mut last_round = Instant::now();
    loop {
        let pause = tokio::time::sleep(INTERVAL);
        tokio::select! {
            () = pause => {}
            () = shutdown.requested() => return,
        }
        if is_behind() && last_round.elapsed() < MAX_POSTPONEMENT {
            continue;
        }
        let is_full = round % ROUNDS_BETWEEN_FULL == 0;
        match one_round(&session, &config, is_full, &shutdown, &is_behind, &done).await {
            Ok(()) => {
                round += 1;
                last_round = Instant::now();
            }
            Err(error) => {
                warn!(%error, "cannot compute rollups, will retry");
                done(Err(()));
            }
        }
    }
}

async fn one_round(
    session: &Session,
    config: &Config,
    is_full: bool,
    shutdown: &Shutdown,
    is_behind: &impl Fn() -> bool,
    done: &impl Fn(Result<Done, ()>),
) -> Result<(), Error> {
    let writer = RollupWriter::new(session, config).await?;
    let now = chrono::Utc::now().timestamp_millis();
    for group in groups::groups(session).await?.into_iter().map(Arc::new) {
        if shutdown.is_requested() {
            return Ok(());
        }
        let range = match is_full {
            true => TimeRange::ALL,
            false => range_of_recent(session, &group, now).await?,
        };
        let due = writer.due(&group, range, Scope::Due).await?;
        if due.days.is_empty() {
            continue;
        }
        let mut leased = match writer.lease(&group).await {
            Ok(leased) => leased,
            Err(RollupError::Cassandra(error)) => return Err(error),
            // The other process computes the same.
            Err(RollupError::Leased { .. } | RollupError::LeaseLost { .. }) => continue,
        };
        let worked = tokio::select! {
            worked = work(&mut leased, &due, is_behind, done) => worked,
            () = shutdown.requested() => Ok(()),
        };
        leased.release().await;
        match worked {
            Err(RollupError::Cassandra(error)) => return Err(error),
            Ok(()) | Err(RollupError::Leased { .. } | RollupError::LeaseLost { .. }) => {}
        }
    }
    Ok(())
}

async fn work(
    leased: &mut Leased<'_>,
    due: &Due,
    is_behind: &impl Fn() -> bool,
    done: &impl Fn(Result<Done, ()>),
) -> Result<(), RollupError> {
    for day in &due.days {
        let started = Instant::now();
        let rolled = leased.roll(day, |_| {}).await?;
        debug!(day = day.day, ?rolled, "rolled up");
        done(Ok(rolled));
        let pause = if is_behind() { PAUSE_WHEN_BEHIND } else { PAUSE };
        leased.pause(started.elapsed() * pause).await?;
    }
    Ok(())
}

/// From the oldest hour with a dirty marker, or the last days if none is older.
async fn range_of_recent(session: &Session, group: &Group, now: i64) -> Result<TimeRange, Error> {
    let marks = crate::store::rollups::coverage::dirty_markers(session, group).await?;
    let oldest = marks.iter().map(|mark| mark.hour).min().unwrap_or(now);
    Ok(TimeRange { from: oldest.min(now - RECENT), to: now + HOUR })
}
