//! What rules about silence need beside readings: the sensors of the store, so that one is missed that never sends again,
//! and the time up to which all readings of a partition are known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::tracker::Tracker;
use crate::alerting::KnownSensor;
use crate::cassandra::{Error, Session};
use crate::kafka::TopicPartition;
use crate::store::groups;
use crate::store::readings::{self, Names};

/// How often silence is judged by the clock.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// How often the store is asked about sensors of which no reading came.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// When it is asked again after it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The newest readings of all sensors.
pub(super) async fn known_sensors(session: &Session) -> Result<Vec<KnownSensor>, Error> {
    let mut known = Vec::new();
    let mut names = Names::default();
    for group in groups::groups(session).await? {
        let group = Arc::new(group);
        let mut pages = readings::latest(session, &group, None).await?;
        while let Some(page) = pages.next(&mut names).await? {
            known.extend(page.into_iter().map(|reading| KnownSensor {
                location: group.location.clone(),
                device_type: group.device_type.clone(),
                sensor: reading.sensor,
                newest: reading.recorded_at,
            }));
        }
    }
    Ok(known)
}

/// When the clock judges.
pub(super) struct SilenceClock {
    session: Session,
    runtime: Handle,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    /// When each partition was last read to its end, in milliseconds since the epoch.
    ended: HashMap<TopicPartition, i64>,
    judged: Option<Instant>,
    is_asking: bool,
    ask_at: Instant,
    /// When the last question began that the store has answered, with all partitions read to their ends.
    answered: Option<i64>,
}

/// When the question began, and what the store says.
type Answer = (i64, Result<Vec<KnownSensor>, Error>);

impl SilenceClock {
    pub(super) fn new(session: Session, runtime: Handle) -> Self {
        let (sender, answers) = mpsc::channel();
        Self {
            session,
            runtime,
            sender,
            answers,
            ended: HashMap::new(),
            judged: None,
            is_asking: false,
            ask_at: Instant::now(),
            answered: None,
        }
    }

    pub(super) fn reached_end(&mut self, partition: TopicPartition, now: i64) {
        self.ended.insert(partition, now);
    }

    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.ended.remove(&partition);
        // What the store says now may be older than what the next owner reads.
        self.answered = None;
    }

    /// Whether it is time to judge.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.judged.is_none_or(|judged| judged.elapsed() >= JUDGE_EVERY);
        if is_due {
            self.judged = Some(Instant::now());
        }
        is_due
    }

    /// The time up to which all readings are known: by partition, and of sensors that were not read.
    pub(super) fn known_until(&mut self, tracker: &Tracker, now: i64) -> Known {
        for partition in tracker.partitions() {
            if tracker.is_at_end(partition) {
                self.ended.insert(partition, now);
            }
        }
        let all: Option<Vec<i64>> =
            tracker.partitions().map(|partition| self.ended.get(&partition).copied()).collect();
        let all = all.and_then(|ended| ended.into_iter().min());
        let unseen = all.zip(self.answered).map(|(all, answered)| all.min(answered));
        Known { ended: self.ended.clone(), all, unseen }
    }

    /// What the store has answered since the last call.
    pub(super) fn take_answer(&mut self) -> Option<Vec<KnownSensor>> {
        let (began, answer) = self.answers.try_recv().ok()?;
        self.is_asking = false;
        match answer {
            Ok(known) => {
                self.answered = Some(began);
                self.ask_at = Instant::now() + ASK_EVERY;
                Some(known)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look up which sensors exist, for rules about silence; retrying");
                self.ask_at = Instant::now() + ASK_AGAIN;
                None
            }
        }
    }

    /// Asks the store, unless it was asked shortly before.
    pub(super) fn ask(&mut self, now: i64) {
        if self.is_asking || Instant::now() < self.ask_at {
            return;
        }
        self.is_asking = true;
        let (session, sender) = (self.session.clone(), self.sender.clone());
        self.runtime.spawn(async move {
            // Nobody waits for it when ingest has ended.
            let _ = sender.send((now, known_sensors(&session).await));
        });
    }

    pub(super) fn has_answer(&self) -> bool {
        self.answered.is_some()
    }
}

/// The times up to which all readings are known, in milliseconds since the epoch.
pub(super) struct Known {
    ended: HashMap<TopicPartition, i64>,
    /// Of all partitions; `None` until all of them were read to their ends.
    pub all: Option<i64>,
    unseen: Option<i64>,
}

impl Known {
    pub(super) fn until(&self, partition: Option<TopicPartition>) -> Option<i64> {
        match partition {
            Some(partition) => self.ended.get(&partition).copied(),
            None => self.unseen,
        }
    }
}
