//! Alerts that a silence holds back. What still fires when the silence ends is sent then; what was over before is not sent.
//!
//! An alert that is held counts as delivered, so a long silence holds no offset. What is held is known again after a restart: it fires,
//! and a silence matches it. That it was sent before the silence began is not known then, and it is sent once more at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::alerting::alert::{Alert, State};
use crate::alerting::mute::Mutes;
use crate::alerting::topic::AlertFeed;
use crate::config::KafkaConfig;
use crate::kafka::Error;
use crate::shutdown::Shutdown;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a silence released so long before a start may not have been sent, and is sent again.
const RELEASED_BEFORE: TimeDelta = TimeDelta::hours(1);

/// The silences, as the topic has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Silences(Arc<Mutex<Mutes>>);

impl Silences {
    /// Reads those of the topic, and follows it until `stop` is requested.
    pub(super) async fn follow(config: &KafkaConfig, stop: &Shutdown) -> Result<Self, Error> {
        let silences = Self::default();
        let mut feed = AlertFeed::open(config).await?;
        silences.read(&mut feed, stop).await?;
        let (following, stop) = (silences.clone(), stop.clone());
        tokio::spawn(async move {
            let mut is_failing = false;
            while !stop.is_requested() {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.requested() => return,
                }
                match following.read(&mut feed, &stop).await {
                    Ok(()) => is_failing = false,
                    Err(error) => {
                        if !is_failing {
                            tracing::warn!(%error, "cannot look for silences, retrying");
                        }
                        is_failing = true;
                    }
                }
            }
        });
        Ok(silences)
    }

    async fn read(&self, feed: &mut AlertFeed, stop: &Shutdown) -> Result<(), Error> {
        let batch = feed.next().await?;
        let (known, stop) = (self.0.clone(), stop.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut new = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            batch.silences(&|| stop.is_requested(), &mut new)?;
            *known.lock().unwrap_or_else(PoisonError::into_inner) = new;
            Ok(())
        });
        // A panic of the thread is one of this task too.
        read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn holds(&self, alert: &Alert, now: DateTime<Utc>) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).holding(alert, now).is_some()
    }

    fn has_released(&self, alert: &Alert, now: DateTime<Utc>) -> bool {
        let mutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mutes.has_released(alert, now - RELEASED_BEFORE, now)
    }
}

/// An alert that is held back.
#[derive(Debug, Clone)]
pub(super) struct HeldAlert {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) alert: Arc<Alert>,
    /// It may have been sent before an earlier process ended: then its end is told.
    pub(super) may_be_told: bool,
}

/// By rule and sensor.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<(String, Uuid), HeldAlert>);

impl Held {
    /// Whether an alert that just came is held back: it matches a silence, or nobody was told of what it ends.
    pub(super) fn takes(
        &mut self,
        silences: &Silences,
        partition: i32,
        offset: i64,
        alert: &Alert,
        now: DateTime<Utc>,
    ) -> bool {
        let key = (alert.rule.clone(), alert.iot_sensor_id);
        match alert.state {
            State::Resolved => self.0.remove(&key).is_some_and(|held| !held.may_be_told),
            State::Firing if silences.holds(alert, now) => {
                let alert = Arc::new(alert.clone());
                self.0.insert(key, HeldAlert { partition, offset, alert, may_be_told: false });
                true
            }
            State::Firing => {
                self.0.remove(&key);
                false
            }
        }
    }

    /// Of what fired when a partition was assigned: keeps what is held back, or was until shortly before, and returns the rest.
    pub(super) fn learn(
        &mut self,
        silences: &Silences,
        partition: i32,
        firing: Vec<(i64, Arc<Alert>)>,
        now: DateTime<Utc>,
    ) -> Vec<Arc<Alert>> {
        let mut rest = Vec::new();
        for (offset, alert) in firing {
            if silences.holds(&alert, now) || silences.has_released(&alert, now) {
                let key = (alert.rule.clone(), alert.iot_sensor_id);
                self.0.insert(key, HeldAlert { partition, offset, alert, may_be_told: true });
            } else {
                rest.push(alert);
            }
        }
        rest
    }

    /// What no silence holds back any more, in the order of the topic.
    pub(super) fn release(&mut self, silences: &Silences, now: DateTime<Utc>) -> Vec<HeldAlert> {
        let mut released: Vec<_> =
            self.0.extract_if(|_, held| !silences.holds(&held.alert, now)).map(|(_, held)| held).collect();
        released.sort_by_key(|held| (held.partition, held.offset));
        released
    }

    pub(super) fn forget(&mut self, partition: i32) {
        self.0.retain(|_, held| held.partition != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::example;
    use crate::alerting::{Matchers, Mute};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    fn silences(from: i64, to: i64) -> Silences {
        let silences = Silences::default();
        let matchers = Matchers { rule: Some("hot".to_owned()), ..Matchers::default() };
        let mute = Mute::new(matchers, (at(from), at(to)), "ada".to_owned(), None);
        silences.0.lock().unwrap().add(mute);
        silences
    }

    fn offsets(held: &[HeldAlert]) -> Vec<i64> {
        held.iter().map(|held| held.offset).collect()
    }

    #[test]
    fn what_still_fires_at_the_end_of_a_silence_is_sent_then_and_what_is_over_is_not() {
        let (silences, mut held) = (silences(10, 20), Held::default());
        let mut takes = |offset: i64, sensor, state, now: i64| {
            held.takes(&silences, 0, offset, &example("hot", sensor, state, now), at(now))
        };
        assert!(!takes(0, 1, State::Firing, 9));
        assert!(takes(1, 2, State::Firing, 10));
        assert!(takes(2, 3, State::Firing, 11));
        // One that was told of is told to be over, and one that was not is not.
        assert!(!takes(3, 1, State::Resolved, 12));
        assert!(takes(4, 2, State::Resolved, 13));
        assert!(held.release(&silences, at(19)).is_empty());
        assert_eq!(offsets(&held.release(&silences, at(20))), [2]);
        assert!(held.release(&silences, at(21)).is_empty());
    }

    #[test]
    fn what_is_held_back_is_known_again_after_a_restart() {
        let firing = || {
            vec![
                (7, Arc::new(example("hot", 1, State::Firing, 12))),
                (8, Arc::new(example("cold", 1, State::Firing, 12))),
            ]
        };
        let silences = silences(10, 20);
        for (now, expected) in [(15, vec![7]), (25, vec![7]), (20 + 3_700, vec![])] {
            let mut held = Held::default();
            let rest = held.learn(&silences, 0, firing(), at(now));
            assert_eq!(rest.len(), 2 - expected.len(), "at {now}");
            assert_eq!(offsets(&held.release(&silences, at(now.max(20)))), expected, "at {now}");
        }
        let mut held = Held::default();
        held.learn(&silences, 0, firing(), at(15));
        let resolved = example("hot", 1, State::Resolved, 16);
        assert!(!held.takes(&silences, 0, 9, &resolved, at(16)), "it may have been told");
        held.learn(&silences, 0, firing(), at(15));
        held.forget(0);
        assert!(held.release(&silences, at(20)).is_empty());
    }
}
