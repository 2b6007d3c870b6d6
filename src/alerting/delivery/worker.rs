//! One receiver: alerts become groups, a group that has waited long enough is sent, and sent again until the receiver has it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::channel::Failure;
use super::dead_letters::DeadLetters;
use super::metrics::DeliveryMetrics;
use super::notification::{GroupKey, Item, Notification};
use super::receivers::Receiver;
use crate::alerting::alert::{Alert, State};
use crate::metrics::Health;
use crate::output::text::one_or_many;
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;

/// The delays between two attempts that failed.
const RETRIES: RetryPolicy = RetryPolicy::new(Duration::from_millis(500), Duration::from_secs(60));
/// Alerts of a notification.
const MOST_ALERTS: usize = 500;
const MINUTE: Duration = Duration::from_secs(60);

/// What a worker is told.
pub(super) enum Job {
    Deliver(Item),
    /// What fires in a partition and was delivered before it was assigned.
    Firing(i32, Vec<Arc<Alert>>),
    /// The partition was revoked.
    Forget(i32),
}

pub(super) struct Worker {
    pub(super) receiver: Arc<Receiver>,
    pub(super) inbox: mpsc::UnboundedReceiver<Job>,
    pub(super) dead_letters: DeadLetters,
    pub(super) metrics: DeliveryMetrics,
    pub(super) health: Health,
    pub(super) shutdown: Shutdown,
}

#[derive(Debug)]
struct Group {
    /// When it may be sent.
    due: Instant,
    items: VecDeque<Item>,
}

/// What a worker remembers.
#[derive(Debug, Default)]
struct Memory {
    groups: HashMap<GroupKey, Group>,
    /// When the notifications of the last minute were sent.
    sent: VecDeque<Instant>,
    /// What the receiver was told that fires, with its partition; only where it is sent again.
    firing: HashMap<(String, Uuid), (i32, Arc<Alert>)>,
}

impl Worker {
    /// Works until shutdown is requested or the dispatcher has ended.
    pub(super) async fn run(mut self) {
        let mut memory = Memory::default();
        let every = self.receiver.channel.resend();
        let mut resend = tokio::time::interval(every.unwrap_or(MINUTE));
        resend.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once.
        resend.tick().await;
        loop {
            let next = memory.next_due(self.receiver.max_per_minute);
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.shutdown.requested() => return,
                job = self.inbox.recv() => match job {
                    Some(job) => self.take(job, &mut memory),
                    None => return,
                },
                () = due => {
                    if let Some((key, items)) = memory.take_due() {
                        if self.deliver(&key, items, &mut memory).await.is_none() {
                            return;
                        }
                        memory.note_sent();
                    }
                }
                _ = resend.tick(), if every.is_some() => self.resend(&memory).await,
            }
        }
    }

    fn take(&self, job: Job, memory: &mut Memory) {
        match job {
            Job::Deliver(item) => {
                let fields = self.receiver.group_by.iter();
                let key: GroupKey = fields.map(|field| (field.name(), field.of(&item.alert))).collect();
                let due = Instant::now() + self.receiver.group_wait;
                let group = memory.groups.entry(key).or_insert_with(|| Group { due, items: VecDeque::new() });
                group.items.push_back(item);
            }
            Job::Firing(partition, alerts) => {
                let wanted = alerts.into_iter().filter(|alert| self.receiver.wants(alert));
                memory.firing.extend(wanted.map(|alert| (key(&alert), (partition, alert))));
            }
            Job::Forget(partition) => memory.firing.retain(|_, (of, _)| *of != partition),
        }
    }

    /// Sends until the receiver has all of it, or refuses it. `None` when shutdown was requested before.
    async fn deliver(&self, group: &GroupKey, items: Vec<Item>, memory: &mut Memory) -> Option<()> {
        let name = [self.receiver.name.as_str()];
        let policy = match self.receiver.give_up_after {
            Some(limit) => RETRIES.at_most(limit),
            None => RETRIES,
        };
        let mut attempts = policy.attempts();
        let mut is_failing = false;
        let mut due = VecDeque::from([items]);
        while let Some(mut items) = due.pop_front() {
            // Another member of the consumer group delivers what is not ours any more.
            items.retain(|item| item.ticket.is_ours());
            if items.is_empty() {
                continue;
            }
            let alerts = items.iter().map(|item| &*item.alert).collect();
            let notification = Notification { receiver: &self.receiver.name, group, alerts };
            let sent = self.receiver.channel.send(&notification, self.receiver.timeout).await;
            match sent {
                Ok(()) => {
                    self.metrics.notifications.with_label_values(&name).inc();
                    self.metrics.delivered.with_label_values(&name).inc_by(items.len() as u64);
                    items.iter().for_each(|item| memory.remember(item));
                    items.iter().for_each(|item| item.ticket.done());
                }
                // Alertmanager refuses all for one that is at fault.
                Err(Failure::Refused(_)) if self.receiver.channel.resend().is_some() && items.len() > 1 => {
                    items.into_iter().rev().for_each(|item| due.push_front(vec![item]));
                }
                Err(Failure::Refused(reason)) => self.bury(&items, "refused", &reason).await?,
                Err(Failure::Unavailable(reason)) => {
                    let Some(delay) = attempts.failed(true) else {
                        self.bury(&items, "expired", &reason).await?;
                        continue;
                    };
                    if !is_failing {
                        tracing::warn!(receiver = name[0], "cannot deliver alerts, retrying: {reason}");
                    }
                    is_failing = true;
                    self.metrics.failing.with_label_values(&name).set(1);
                    self.metrics.retries.with_label_values(&name).inc();
                    self.health.set_not_ready(format!("receiver {}: {reason}", name[0]));
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.shutdown.requested() => return None,
                    }
                    due.push_front(items);
                }
            }
        }
        if is_failing {
            tracing::info!(receiver = name[0], "alerts are delivered again");
        }
        self.metrics.failing.with_label_values(&name).set(0);
        self.health.set_ready();
        Some(())
    }

    /// Sends alerts to the dead-letter topic; `None` when shutdown was requested before all are there.
    async fn bury(&self, items: &[Item], reason: &str, error: &str) -> Option<()> {
        let receiver = &self.receiver.name;
        let what = one_or_many(items.len(), "alert becomes a dead letter", "alerts become dead letters");
        tracing::warn!(receiver, "{what} ({reason}): {error}");
        for item in items {
            let mut delays = RetryPolicy::WRITES.delays();
            while let Err(failed) = self.dead_letters.send(&item.alert, receiver, reason, error).await {
                tracing::warn!(error = %failed, "cannot write a dead letter, retrying");
                tokio::select! {
                    () = delays.wait() => {}
                    () = self.shutdown.requested() => return None,
                }
            }
            self.metrics.dead_letters.with_label_values(&[receiver.as_str(), reason]).inc();
            item.ticket.done();
        }
        Some(())
    }

    /// Sends what fires again, so that the receiver does not take it as resolved. The next time comes soon: nothing is retried.
    async fn resend(&self, memory: &Memory) {
        let alerts: Vec<&Alert> = memory.firing.values().map(|(_, alert)| &**alert).collect();
        for part in alerts.chunks(MOST_ALERTS) {
            let group = GroupKey::new();
            let notification =
                Notification { receiver: &self.receiver.name, group: &group, alerts: part.to_vec() };
            let sent = self.receiver.channel.send(&notification, self.receiver.timeout);
            let sent = tokio::select! {
                sent = sent => sent,
                () = self.shutdown.requested() => return,
            };
            if let Err(Failure::Refused(reason) | Failure::Unavailable(reason)) = sent {
                tracing::warn!(receiver = self.receiver.name, "cannot send again what fires: {reason}");
                self.metrics.retries.with_label_values(&[&self.receiver.name]).inc();
                return;
            }
        }
    }
}

impl Memory {
    /// When the next group may be sent, within `per_minute` notifications.
    fn next_due(&mut self, per_minute: usize) -> Option<Instant> {
        let due = self.groups.values().map(|group| group.due).min()?;
        let now = Instant::now();
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.sent.pop_front();
        }
        match per_minute {
            0 => Some(due),
            limit if self.sent.len() < limit => Some(due),
            limit => Some(due.max(self.sent[self.sent.len() - limit] + MINUTE)),
        }
    }

    /// The group that is due first, up to the most alerts of a notification; the rest of it stays due.
    fn take_due(&mut self) -> Option<(GroupKey, Vec<Item>)> {
        let (key, _) = self.groups.iter().min_by_key(|(_, group)| group.due)?;
        let key = key.clone();
        let group = self.groups.get_mut(&key)?;
        let items = group.items.drain(..group.items.len().min(MOST_ALERTS)).collect();
        if group.items.is_empty() {
            self.groups.remove(&key);
        }
        Some((key, items))
    }

    fn note_sent(&mut self) {
        self.sent.push_back(Instant::now());
    }

    fn remember(&mut self, item: &Item) {
        match item.alert.state {
            State::Firing => {
                self.firing.insert(key(&item.alert), (item.ticket.partition, item.alert.clone()));
            }
            State::Resolved => {
                self.firing.remove(&key(&item.alert));
            }
        }
    }
}

fn key(alert: &Alert) -> (String, Uuid) {
    (alert.rule.clone(), alert.iot_sensor_id)
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Tracker;
    use super::*;
    use crate::alerting::alert::example;

    #[tokio::test]
    async fn a_group_is_sent_in_parts_and_in_order_within_the_limit() {
        let tracker = Tracker::default();
        tracker.assign(0, None, 0..600);
        let mut memory = Memory::default();
        let items = (0..600).map(|at| Item {
            alert: Arc::new(example("hot", 1, State::Firing, at)),
            ticket: tracker.begin(0, at, 1).unwrap(),
        });
        let due = Instant::now() + Duration::from_secs(10);
        memory.groups.insert(GroupKey::new(), Group { due, items: items.collect() });
        assert_eq!(memory.next_due(1), Some(due));
        let (_, first) = memory.take_due().unwrap();
        memory.note_sent();
        assert_eq!(memory.next_due(1), Some(memory.sent[0] + MINUTE));
        assert_eq!(memory.next_due(2), Some(due));
        let (_, second) = memory.take_due().unwrap();
        assert_eq!((first.len(), second.len(), memory.next_due(0)), (500, 100, None));
        let order: Vec<_> =
            first.iter().chain(&second).map(|item| item.alert.recorded_timestamp.timestamp()).collect();
        assert!(order.is_sorted());
    }
}
