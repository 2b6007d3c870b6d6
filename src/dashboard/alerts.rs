//! The alerts of the topic, as they are known to all pages: what fires now, and the latest ones.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::alerting::current::Current;
use crate::alerting::topic::{AlertFeed, Record};
use crate::alerting::{Acknowledgement, Alert};
use crate::config::KafkaConfig;
use crate::kafka::Error;
use crate::shutdown::Shutdown;

/// The latest alerts that are held: about 1 MB.
const MAX_RECENT: usize = 2_000;
/// Rules and sensors whose latest alert is held: about 30 MB. More are not told apart from those that do not fire.
const MAX_KEYS: usize = 50_000;
/// A look that is younger answers again.
const FRESH: std::time::Duration = std::time::Duration::from_secs(2);

/// Reads the topic from where the last look ended.
#[derive(Default)]
pub(super) struct Alerts(Mutex<Reader>);

#[derive(Default)]
struct Reader {
    feed: Option<AlertFeed>,
    known: Known,
    last: Option<(Instant, Arc<Look>)>,
}

/// What was read so far.
struct Known {
    current: Current,
    /// By time and id: a copy replaces its original.
    recent: BTreeMap<(DateTime<Utc>, Uuid), Alert>,
}

/// An alert that fires, and who has seen it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Firing {
    pub alert: Alert,
    pub acknowledgement: Option<Acknowledgement>,
}

/// The alerts at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Look {
    /// In the order in which their episodes began.
    pub firing: Vec<Firing>,
    /// The latest first.
    pub recent: Vec<Alert>,
}

impl Alerts {
    /// What is known now. The first look reads the whole topic.
    pub(super) async fn look(&self, config: &KafkaConfig, shutdown: &Shutdown) -> Result<Arc<Look>, Error> {
        let mut reader = self.0.lock().await;
        if let Some((at, look)) = &reader.last
            && at.elapsed() < FRESH
        {
            return Ok(look.clone());
        }
        let mut feed = match reader.feed.take() {
            Some(feed) => feed,
            // Nobody has set up alerts: none fires.
            None => match AlertFeed::open(config).await {
                Err(Error::MissingTopic { .. }) => return Ok(Arc::default()),
                opened => opened?,
            },
        };
        let batch = feed.next().await?;
        let mut known = std::mem::take(&mut reader.known);
        let stop = shutdown.clone();
        let read = tokio::task::spawn_blocking(move || {
            let result = batch.each_record(&|| stop.is_requested(), |record| {
                if let Record::Alert(alert) = record {
                    known.add(*alert);
                } else if let Record::Acknowledgement(acknowledgement) = record {
                    known.current.acknowledge(acknowledgement);
                }
                ControlFlow::<()>::Continue(())
            });
            (known, result)
        });
        // Without the feed, the next look begins anew: after an error some alerts may have been passed over.
        let (known, result) = read.await.map_err(|error| Error::Rejected {
            action: "read the alerts".into(),
            reason: error.to_string(),
        })?;
        result?;
        let look = Arc::new(known.look());
        *reader = Reader { feed: Some(feed), known, last: Some((Instant::now(), look.clone())) };
        Ok(look)
    }
}

impl Alerts {
    /// Takes an acknowledgement that was just sent: the next look shows it, before the topic is read again.
    pub(super) async fn acknowledge(&self, acknowledgement: &Acknowledgement) {
        let mut reader = self.0.lock().await;
        reader.known.current.acknowledge(acknowledgement.clone());
        if reader.last.is_some() {
            let look = Arc::new(reader.known.look());
            reader.last = Some((Instant::now(), look));
        }
    }
}

impl Default for Known {
    fn default() -> Self {
        Self { current: Current::of_at_most(MAX_KEYS), recent: BTreeMap::new() }
    }
}

impl Known {
    fn add(&mut self, alert: Alert) {
        self.current.add(alert.clone());
        self.recent.insert((alert.recorded_timestamp, alert.id), alert);
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_first();
        }
    }

    fn look(&self) -> Look {
        let firing = self.current.firing().into_iter().map(|alert| Firing {
            alert: alert.clone(),
            acknowledgement: self.current.acknowledgement(alert).cloned(),
        });
        let firing = firing.collect();
        Look { firing, recent: self.recent.values().rev().cloned().collect() }
    }
}
