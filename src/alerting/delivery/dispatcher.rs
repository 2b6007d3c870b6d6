//! The topic of alerts, read as a consumer group on a thread of its own: each alert goes to the workers of the receivers that
//! want it, and an offset is committed when all of them have it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::dead_letters::DeadLetters;
use super::held::{Held, HeldAlert, Silences};
use super::known::{Judgement, Known};
use super::metrics::DeliveryMetrics;
use super::notification::Item;
use super::receivers::{Receiver, Receivers};
use super::tracker::Tracker;
use super::worker::{Job, Worker};
use crate::alerting::alert::Alert;
use crate::alerting::topic::Record;
use crate::config::KafkaConfig;
use crate::kafka::consumer::{Change, Consumer, Event};
use crate::kafka::message::Message;
use crate::kafka::reader::{Span, Step, TopicReader};
use crate::kafka::{Error, renewal, topics};
use crate::metrics::Health;
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;

/// Alerts in memory that a receiver still has to accept; beyond it the rest waits in the topic.
const MOST_IN_FLIGHT: usize = 10_000;
const POLL: Duration = Duration::from_millis(100);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long a worker may take to end an attempt after shutdown was requested.
const GRACE: Duration = Duration::from_secs(10);

/// How a delivery runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Stop when what the topic held at the start is delivered.
    pub until_end: bool,
}

/// Why a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Stopped,
    ReachedEnd,
}

/// Delivers alerts until shutdown is requested, or the end of the topic is reached. `config.group` is the consumer group.
///
/// # Errors
/// What of Kafka only an operator can change.
pub async fn run(
    config: &KafkaConfig,
    receivers: Receivers,
    options: Options,
    metrics: DeliveryMetrics,
    health: Health,
    shutdown: Shutdown,
) -> Result<Ending, Error> {
    let topic = config.alerts_topic();
    topics::partitions(config, &config.alerts_dead_letter_topic()).await?;
    let ends = topics::end_offsets(config, &topic).await?;
    let dead_letters = DeadLetters::new(config)?;
    // Workers end with it, without ending the process.
    let stop = Shutdown::new();
    let silences = Silences::follow(config, &stop).await?;
    let mut workers = JoinSet::new();
    let mut outlets = Vec::new();
    for receiver in receivers.into_vec() {
        let receiver = Arc::new(receiver);
        let (jobs, inbox) = mpsc::unbounded_channel();
        outlets.push(Outlet { receiver: receiver.clone(), jobs });
        let worker = Worker {
            receiver,
            inbox,
            dead_letters: dead_letters.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            shutdown: stop.clone(),
        };
        workers.spawn(worker.run());
    }
    let tracker = Tracker::default();
    let renewed = renewal::generation();
    let member = Member::join(config, &tracker).inspect_err(|_| stop.request())?;
    health.set_ready();
    let dispatcher = Dispatcher {
        config: config.clone(),
        topic,
        member: Some(member),
        renewed,
        tracker,
        outlets,
        known: HashMap::new(),
        silences,
        held: Held::default(),
        metrics,
        health,
        shutdown,
        stop,
        runtime: Handle::current(),
        is_paused: false,
    };
    let ends = options.until_end.then_some(ends);
    let reading = tokio::task::spawn_blocking(move || dispatcher.run(ends.as_deref(), &mut workers));
    // A panic of the thread is one of this task too.
    match reading.await {
        Ok(ended) => ended,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Delivers alerts beside other work, which it never ends: an error of Kafka is reported, and it begins again. The file of receivers
/// is read again then.
pub async fn run_patiently(
    config: KafkaConfig,
    receivers: Receivers,
    file: PathBuf,
    metrics: DeliveryMetrics,
    shutdown: Shutdown,
) {
    let mut delays = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60)).delays();
    let mut receivers = Some(receivers);
    while !shutdown.is_requested() {
        let read = receivers.take().map_or_else(|| Receivers::read(&file), Ok);
        let problem = match read {
            Ok(receivers) => {
                let (options, health) = (Options::default(), Health::default());
                let ended = run(&config, receivers, options, metrics.clone(), health, shutdown.clone()).await;
                match ended {
                    Ok(_) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => format!("{}: {error}", file.display()),
        };
        tracing::warn!("alerts are not delivered, retrying: {problem}");
        tokio::select! {
            () = tokio::time::sleep(delays.next_delay()) => {}
            () = shutdown.requested() => return,
        }
    }
}

/// A member of the consumer group. After a change of certificates it is followed by another.
struct Member {
    consumer: Consumer,
    /// What was reported of its partitions and not looked at yet.
    changes: Arc<Mutex<Vec<Change>>>,
    is_current: Arc<AtomicBool>,
}

impl Member {
    fn join(config: &KafkaConfig, tracker: &Tracker) -> Result<Self, Error> {
        let (changes, is_current) = (Arc::<Mutex<Vec<Change>>>::default(), Arc::new(AtomicBool::new(true)));
        let (noted, current, tracker) = (changes.clone(), is_current.clone(), tracker.clone());
        let topic = config.alerts_topic();
        let consumer = Consumer::subscribe(
            config,
            std::slice::from_ref(&topic.clone()),
            true,
            move |change, offsets| {
                // A client that takes long to close gives up what its successor has by now.
                if !current.load(Ordering::Relaxed) {
                    return;
                }
                if let Change::Revoked(partitions) = &change {
                    // While the partitions are still ours.
                    if let Err(error) = offsets.commit(&tracker.due(&topic), true) {
                        tracing::warn!(%error, "cannot commit before a rebalance: some alerts may come twice");
                    }
                    partitions.iter().for_each(|of| tracker.revoke(of.partition));
                }
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(change);
            },
        )?;
        Ok(Self { consumer, changes, is_current })
    }
}

/// A receiver and the way to its worker.
struct Outlet {
    receiver: Arc<Receiver>,
    jobs: mpsc::UnboundedSender<Job>,
}

struct Dispatcher {
    config: KafkaConfig,
    topic: String,
    /// `None` only while it is made anew.
    member: Option<Member>,
    /// Certificates have changed in their files.
    renewed: watch::Receiver<u64>,
    tracker: Tracker,
    outlets: Vec<Outlet>,
    known: HashMap<i32, Known>,
    silences: Silences,
    held: Held,
    metrics: DeliveryMetrics,
    health: Health,
    shutdown: Shutdown,
    /// Ends the workers.
    stop: Shutdown,
    runtime: Handle,
    is_paused: bool,
}

impl Dispatcher {
    fn run(mut self, ends: Option<&[i64]>, workers: &mut JoinSet<()>) -> Result<Ending, Error> {
        let ended = self.read(ends);
        self.stop.request();
        // An attempt that is under way is not cut off: its alerts would come twice.
        self.runtime.block_on(async {
            let _ = tokio::time::timeout(GRACE, async { while workers.join_next().await.is_some() {} }).await;
        });
        self.health.end();
        self.commit(true);
        ended
    }

    fn read(&mut self, ends: Option<&[i64]>) -> Result<Ending, Error> {
        let mut committed = Instant::now();
        while !self.shutdown.is_requested() {
            if self.renewed.has_changed().unwrap_or(false) {
                self.reopen()?;
            }
            self.poll()?;
            let is_full = self.tracker.open() >= MOST_IN_FLIGHT;
            if is_full != self.is_paused {
                let consumer = self.consumer();
                consumer.map_or(Ok(()), |it| if is_full { it.pause() } else { it.resume() })?;
                self.is_paused = is_full;
            }
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                self.release();
                self.commit(false);
                self.count_lag();
                let is_at_end = ends.is_some_and(|ends| {
                    (0..).zip(ends).all(|(partition, end)| self.tracker.is_done(partition, *end))
                });
                if is_at_end {
                    return Ok(Ending::ReachedEnd);
                }
            }
        }
        Ok(Ending::Stopped)
    }

    fn consumer(&self) -> Option<&Consumer> {
        self.member.as_ref().map(|member| &member.consumer)
    }

    fn poll(&mut self) -> Result<(), Error> {
        let Some(Member { consumer, changes, .. }) = &self.member else { return Ok(()) };
        let message = match consumer.poll(POLL)? {
            Some(Event::Message(message)) => Some(message.to_owned()),
            Some(Event::EndOfPartition(_)) | None => None,
        };
        let changes = std::mem::take(&mut *changes.lock().unwrap_or_else(PoisonError::into_inner));
        for change in changes {
            match change {
                Change::Assigned(partitions) => {
                    self.assigned(&partitions.iter().map(|of| of.partition).collect::<Vec<_>>())?;
                }
                Change::Revoked(partitions) => {
                    partitions.iter().for_each(|of| self.forget(of.partition));
                }
            }
        }
        if let Some(message) = message {
            self.take(&message);
        }
        Ok(())
    }

    fn forget(&mut self, partition: i32) {
        self.known.remove(&partition);
        self.held.forget(partition);
        self.tell_all(|| Job::Forget(partition));
    }

    /// Makes the consumer anew, because it cannot take up other certificates. Offsets of what is delivered by then are committed;
    /// the rest is read again.
    fn reopen(&mut self) -> Result<(), Error> {
        self.renewed.borrow_and_update();
        // If the files are gone again, the old client stays.
        if let Err(error) = renewal::check(&self.config) {
            tracing::warn!(%error, "the clients of Kafka cannot be made anew, the old ones stay in use");
            return Ok(());
        }
        tracing::info!("the clients of Kafka are made anew");
        let until = Instant::now() + GRACE;
        while self.tracker.open() > 0 && Instant::now() < until && !self.shutdown.is_requested() {
            std::thread::sleep(POLL);
        }
        self.commit(true);
        if let Some(member) = &self.member {
            member.is_current.store(false, Ordering::Relaxed);
        }
        let partitions: Vec<_> = self.known.keys().copied().collect();
        for partition in partitions {
            self.tracker.revoke(partition);
            self.forget(partition);
        }
        // It leaves before its successor joins.
        self.member = None;
        self.member = Some(Member::join(&self.config, &self.tracker)?);
        self.is_paused = false;
        Ok(())
    }

    fn tell_all(&self, job: impl Fn() -> Job) {
        // A worker ends with the dispatcher alone.
        self.outlets.iter().for_each(|outlet| drop(outlet.jobs.send(job())));
    }

    /// Learns what the partitions held before they were assigned. Tries again while Kafka does not answer.
    fn assigned(&mut self, partitions: &[i32]) -> Result<(), Error> {
        let mut delays = RetryPolicy::WRITES.delays();
        while !self.shutdown.is_requested() {
            match self.learn(partitions) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_hopeless() => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot read what fires, retrying"),
            }
            std::thread::sleep(delays.next_delay());
        }
        Ok(())
    }

    fn learn(&mut self, partitions: &[i32]) -> Result<(), Error> {
        let of: Vec<_> = partitions
            .iter()
            .map(|partition| crate::kafka::TopicPartition::new(&self.topic, *partition))
            .collect();
        let committed = self.consumer().map_or(Ok(Vec::new()), |it| it.offsets().committed(&of))?;
        let committed: HashMap<i32, i64> =
            committed.into_iter().map(|offset| (offset.of.partition, offset.offset)).collect();
        let watermarks = self.runtime.block_on(topics::watermarks(&self.config, &self.topic))?;
        let mut known: HashMap<i32, Known> = HashMap::new();
        let (mut spans, mut held) = (Vec::new(), HashMap::new());
        for (partition, (first, end)) in (0..).zip(watermarks) {
            if !partitions.contains(&partition) {
                continue;
            }
            let of = known.entry(partition).or_default();
            let to = committed.get(&partition).map_or(end, |offset| (*offset).min(end));
            if !committed.contains_key(&partition) {
                of.set_backlog(end);
            }
            held.insert(partition, first..end);
            spans.push(Span { partition, from: first, to });
        }
        let mut reader = TopicReader::open(&self.config, &self.topic, &spans)?;
        while !self.shutdown.is_requested() {
            match reader.step()? {
                Step::Message(message) => {
                    let alert = serde_json::from_slice(message.payload());
                    if let (Ok(alert), Some(known)) = (alert, known.get_mut(&message.partition())) {
                        known.learn(message.offset(), alert);
                    }
                }
                Step::Waiting => {}
                Step::End => break,
            }
        }
        for (partition, known) in known {
            let held = held.remove(&partition).unwrap_or_default();
            self.tracker.assign(partition, committed.get(&partition).copied(), held);
            let firing = self.held.learn(&self.silences, partition, known.firing(), Utc::now());
            self.tell_all(|| Job::Firing(partition, firing.clone()));
            self.known.insert(partition, known);
        }
        Ok(())
    }

    fn take(&mut self, message: &Message<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        let Some(known) = self.known.get_mut(&partition) else { return };
        let Ok(alert) = serde_json::from_slice::<Alert>(message.payload()) else {
            if Record::read(message.payload()).is_none() {
                self.metrics.foreign.inc();
            }
            self.tracker.begin(partition, offset, 0);
            return;
        };
        if known.judge(offset, &alert) != Judgement::Deliver {
            self.metrics.copies.inc();
            self.tracker.begin(partition, offset, 0);
            return;
        }
        if self.held.takes(&self.silences, partition, offset, &alert, Utc::now()) {
            self.metrics.silenced.inc();
            self.tracker.begin(partition, offset, 0);
            return;
        }
        self.send(HeldAlert { partition, offset, alert: Arc::new(alert), may_be_told: false });
    }

    /// Sends what no silence holds back any more. Its offset counts as not delivered until it is.
    fn release(&mut self) {
        for held in self.held.release(&self.silences, Utc::now()) {
            self.send(held);
        }
    }

    fn send(&self, HeldAlert { partition, offset, alert, .. }: HeldAlert) {
        let wanting: Vec<_> = self.outlets.iter().filter(|outlet| outlet.receiver.wants(&alert)).collect();
        let Some(ticket) = self.tracker.begin(partition, offset, wanting.len()) else { return };
        for outlet in wanting {
            let item = Item { alert: alert.clone(), ticket: ticket.clone() };
            drop(outlet.jobs.send(Job::Deliver(item)));
        }
    }

    fn commit(&self, wait: bool) {
        let due = self.tracker.due(&self.topic);
        if let Some(consumer) = self.consumer()
            && let Err(error) = consumer.offsets().commit(&due, wait)
        {
            tracing::warn!(%error, "cannot commit: some alerts may come twice");
        }
    }

    fn count_lag(&self) {
        let open = i64::try_from(self.tracker.open()).unwrap_or(i64::MAX);
        let ends = self.consumer().map(Consumer::end_offsets).unwrap_or_default();
        let behind = ends.iter().map(|(of, end)| self.tracker.behind(of.partition, *end)).sum();
        self.metrics.in_flight.set(open);
        self.metrics.lag.set(behind);
    }
}
