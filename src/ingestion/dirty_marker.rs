//! Dirty markers: they say that an hour which is over still gets rows, so that nobody answers from its rollups (see
//! [`crate::rollups`]). A row is never sent without the marker of its hour; rows of hours that are not over need none.

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

/// An attempt that took longer may have outlived the marker that was written before it.
pub(super) const LONG_ATTEMPT: Duration = Duration::from_secs(10);

/// The marker of an hour of a group that this process writes to.
#[derive(Debug)]
pub(super) struct DirtyMarker {
    group: Group,
    hour: i64,
    /// When the newest marker was begun.
    written: Mutex<Option<Instant>>,
}

impl DirtyMarker {
    /// `hour` is its start in milliseconds since the epoch.
    pub(super) fn new(group: Group, hour: i64) -> Arc<Self> {
        Arc::new(Self { group, hour, written: Mutex::default() })
    }

    /// What has to be written before a row of this hour may be sent; `None` if nothing has to. A caller that comes
    /// while a marker is being written waits for it.
    pub(super) async fn missing(&self) -> Option<MissingMarker<'_>> {
        if !rollups::is_late(self.hour, Utc::now().timestamp_millis()) {
            return None;
        }
        let written = self.written.lock().await;
        let is_young = written.is_some_and(|written| written.elapsed() < rollups::RENEW);
        (!is_young).then(|| MissingMarker { marker: self, written, begun: Instant::now() })
    }

    /// The marker is missing again.
    pub(super) async fn expire(&self) {
        *self.written.lock().await = None;
    }
}

/// A marker to be written. Dropped without [`MissingMarker::written`], it stays missing.
pub(super) struct MissingMarker<'a> {
    marker: &'a DirtyMarker,
    written: MutexGuard<'a, Option<Instant>>,
    begun: Instant,
}

impl MissingMarker<'_> {
    pub(super) fn seal(&self, statements: &WriteStatements, consistency: Consistency) -> SealedBatch {
        let Group { location, device_type } = &self.marker.group;
        let now = Utc::now();
        let mut batch = statements.dirty_marker_batch(location, device_type);
        let (hour, at) = (self.marker.hour, now.timestamp_millis());
        batch.push(&writes::dirty_marker_values(location, device_type, hour, Uuid::new_v4(), at));
        batch.seal(consistency, now.timestamp_micros())
    }

    pub(super) fn written(mut self) {
        *self.written = Some(self.begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::HOUR;

    fn marker(hours_ago: i64) -> Arc<DirtyMarker> {
        let now = Utc::now().timestamp_millis();
        let group = Group { location: "a".into(), device_type: "b".into() };
        DirtyMarker::new(group, crate::time::hour_of(now) - hours_ago * HOUR)
    }

    #[tokio::test]
    async fn an_hour_that_is_over_needs_a_marker_until_it_is_written() {
        assert!(marker(0).missing().await.is_none());
        let old = marker(5);
        drop(old.missing().await.expect("nothing is marked"));
        let missing = old.missing().await.expect("it was not written");
        assert_eq!(missing.seal(&WriteStatements::sample(), Consistency::One).rows(), 1);
        missing.written();
        assert!(old.missing().await.is_none());
        old.expire().await;
        assert!(old.missing().await.is_some());
    }

    #[tokio::test]
    async fn a_row_waits_for_the_marker_that_another_is_writing() {
        let old = marker(5);
        let missing = old.missing().await.unwrap();
        let mut waiting = std::pin::pin!(old.missing());
        assert!(futures::poll!(&mut waiting).is_pending());
        missing.written();
        assert!(waiting.await.is_none());
    }
}
