//! Marks on hours that are over and still get rows, so that nobody answers from their rollups (see
//! [`crate::rollups`]). A row is never sent without its hour's mark; rows of hours that are not over need none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::catalog::Group;
use crate::cassandra::SealedBatch;
use crate::config::Consistency;
use crate::rollups;
use crate::store::writes::{self, WriteStatements};

/// An attempt that took longer may have outlived the mark that was made before it.
pub(super) const LONG_ATTEMPT: Duration = Duration::from_secs(10);

/// An hour of a group that this process writes to.
#[derive(Debug)]
pub(super) struct HourMark {
    group: Group,
    hour: i64,
    /// When the newest mark was begun.
    marked: Mutex<Option<Instant>>,
}

impl HourMark {
    pub fn new(group: Group, hour: i64) -> Arc<Self> {
        Arc::new(Self { group, hour, marked: Mutex::default() })
    }

    /// What has to be written before a row of this hour may be sent; `None` where nothing has to. Whoever comes
    /// while a mark is being written waits for it.
    pub async fn missing(&self) -> Option<MissingMark<'_>> {
        if !rollups::is_late(self.hour, Utc::now().timestamp_millis()) {
            return None;
        }
        let marked = self.marked.lock().await;
        let is_young = marked.is_some_and(|marked| marked.elapsed() < rollups::RENEW);
        (!is_young).then(|| MissingMark { hour: self, marked, begun: Instant::now() })
    }

    /// The mark is missing again.
    pub async fn expire(&self) {
        *self.marked.lock().await = None;
    }
}

/// A mark to be made. Dropped without [`MissingMark::made`], it goes on missing.
pub(super) struct MissingMark<'a> {
    hour: &'a HourMark,
    marked: MutexGuard<'a, Option<Instant>>,
    begun: Instant,
}

impl MissingMark<'_> {
    pub fn seal(&self, statements: &WriteStatements, consistency: Consistency) -> SealedBatch {
        let Group { location, device_type } = &self.hour.group;
        let now = Utc::now();
        let mut batch = statements.mark_batch(location, device_type);
        let (hour, at) = (self.hour.hour, now.timestamp_millis());
        batch.push(&writes::mark_values(location, device_type, hour, Uuid::new_v4(), at));
        batch.seal(consistency, now.timestamp_micros())
    }

    pub fn made(mut self) {
        *self.marked = Some(self.begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::HOUR;

    fn mark(hours_ago: i64) -> Arc<HourMark> {
        let now = Utc::now().timestamp_millis();
        let group = Group { location: "a".into(), device_type: "b".into() };
        HourMark::new(group, crate::time::hour_of(now) - hours_ago * HOUR)
    }

    #[tokio::test]
    async fn an_hour_that_is_over_needs_a_mark_until_it_is_made() {
        assert!(mark(0).missing().await.is_none());
        let old = mark(5);
        drop(old.missing().await.expect("nothing is marked"));
        let missing = old.missing().await.expect("it was not made");
        assert_eq!(missing.seal(&WriteStatements::sample(), Consistency::One).rows(), 1);
        missing.made();
        assert!(old.missing().await.is_none());
        old.expire().await;
        assert!(old.missing().await.is_some());
    }

    #[tokio::test]
    async fn a_row_waits_for_the_mark_that_another_is_making() {
        let old = mark(5);
        let missing = old.missing().await.unwrap();
        let mut waiting = std::pin::pin!(old.missing());
        assert!(futures::poll!(&mut waiting).is_pending());
        missing.made();
        assert!(waiting.await.is_none());
    }
}
