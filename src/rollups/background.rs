//! Rollups beside other work: what is due is computed in rounds, and makes way while its host is behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::due::{Due, Scope};
use crate::cassandra::{Error, Session};
use crate::config::Config;
use crate::reading::Group;
use crate::rollups::writer::{Done, Leased, RollError, Roller};
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::time::TimeRange;
use crate::time::{DAY, HOUR};

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Every so many rounds all of time is looked through for what has no rollups, in the others only the last days; what is
/// marked is found in each.
const ROUNDS_BETWEEN_FULL: u64 = 240;
const RECENT: i64 = 2 * DAY;
/// How long a round is put off while the host is behind. After that rollups are computed all the same, little by little:
/// who is always behind would never get any.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many times as long as a piece of work took is waited after it while the host is behind, and while it is not.
const PAUSE_WHEN_BEHIND: u32 = 30;
const PAUSE: u32 = 1;

/// Computes rollups until `shutdown`. Failures are reported and tried again with the next round: nothing is lost by
/// a rollup that is missing. `is_behind` says whether other work needs the servers more; `done` hears what was done.
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
        if is_behind() && last_round.elapsed() < PATIENCE {
            continue;
        }
        let is_full = round % ROUNDS_BETWEEN_FULL == 0;
        match one_round(&session, &config, is_full, &shutdown, &is_behind, &done).await {
            Ok(()) => {
                round += 1;
                last_round = Instant::now();
            }
            Err(error) => {
                warn!(%error, "cannot compute rollups, trying again later");
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
    let roller = Roller::new(session, config).await?;
    let now = chrono::Utc::now().timestamp_millis();
    for group in groups::groups(session).await?.into_iter().map(Arc::new) {
        if shutdown.is_requested() {
            return Ok(());
        }
        let range = match is_full {
            true => TimeRange::ALL,
            false => range_of_recent(session, &group, now).await?,
        };
        let due = roller.due(&group, range, Scope::Due).await?;
        if due.days.is_empty() {
            continue;
        }
        let mut leased = match roller.lease(&group).await {
            Ok(leased) => leased,
            Err(RollError::Cassandra(error)) => return Err(error),
            // Whoever has it computes the same.
            Err(RollError::Leased { .. } | RollError::LeaseLost { .. }) => continue,
        };
        let worked = tokio::select! {
            worked = work(&mut leased, &due, is_behind, done) => worked,
            () = shutdown.requested() => Ok(()),
        };
        leased.release().await;
        match worked {
            Err(RollError::Cassandra(error)) => return Err(error),
            Ok(()) | Err(RollError::Leased { .. } | RollError::LeaseLost { .. }) => {}
        }
    }
    Ok(())
}

async fn work(
    leased: &mut Leased<'_>,
    due: &Due,
    is_behind: &impl Fn() -> bool,
    done: &impl Fn(Result<Done, ()>),
) -> Result<(), RollError> {
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

/// From the oldest marked hour, or the last days where none is older.
async fn range_of_recent(session: &Session, group: &Group, now: i64) -> Result<TimeRange, Error> {
    let marks = crate::store::rollups::marks(session, group).await?;
    let oldest = marks.iter().map(|mark| mark.hour).min().unwrap_or(now);
    Ok(TimeRange { from: oldest.min(now - RECENT), to: now + HOUR })
}
