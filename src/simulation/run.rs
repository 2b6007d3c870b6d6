//! One run: take messages from the stream when they are due, hand them to Kafka or stdout, wait for the last
//! acknowledgement, report. A full queue slows the run; nothing that was taken is dropped.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::deliveries::{Deliveries, Latency, LedgerError, Tally};
use super::disorder::Disorder;
use super::fleet::{Fleet, FleetPlan};
use super::pace::{Pace, Schedule};
use super::recording::{Recording, RecordingPlan};
use super::stream::{Counts, Message, Source, Stream};
use crate::audit::ledger::Ledger;
use crate::config::KafkaConfig;
use crate::kafka::producer::{DELIVERY_TIMEOUT, Delivery, Offer, Producer};
use crate::kafka::topics;
use crate::output::{Output, closed};
use crate::shutdown::Shutdown;

/// What to send.
#[derive(Debug, Clone)]
pub enum Feed {
    Fleet(FleetPlan),
    Recording(RecordingPlan),
}

/// When to stop, whichever comes first; a recording also stops at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    pub count: Option<u64>,
    pub duration: Option<Duration>,
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub feed: Feed,
    pub disorder: Disorder,
    /// Seeds the disorder.
    pub seed: u64,
    pub pace: Pace,
    pub limit: Limit,
    /// Where to append what the broker acknowledged.
    pub ledger: Option<PathBuf>,
}

impl Plan {
    /// True where the run ends by itself.
    pub fn is_bounded(&self) -> bool {
        self.limit.count.is_some() || self.limit.duration.is_some() || matches!(self.feed, Feed::Recording(_))
    }
}

/// Where messages go.
#[derive(Debug, Clone)]
pub enum Target {
    /// The topic of the configuration.
    Kafka(Box<KafkaConfig>),
    /// One line a message.
    Stdout(Output),
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub counts: Counts,
    pub acknowledged: u64,
    pub failed: u64,
    pub first_error: Option<String>,
    /// Lines of a recording that are no readings.
    pub bad_lines: u64,
    /// Columns of a recording that were not sent.
    pub ignored_columns: Vec<String>,
    /// From the first message until the last was queued, and until the last was acknowledged, in seconds.
    pub sending_seconds: f64,
    pub elapsed_seconds: f64,
    /// Messages sent per second of sending, and acknowledged per second of the whole.
    pub rate: f64,
    pub acknowledged_rate: f64,
    /// `None` where nothing was acknowledged.
    pub latency: Option<Latency>,
    /// Seconds of schedule given up after stalls.
    pub given_up_seconds: f64,
    /// How far the readings' own time ran ahead of the clock, in seconds, because there are too few sensors.
    pub ahead_seconds: f64,
    /// Stopped by a signal before its end.
    pub interrupted: bool,
}

/// Waiting ends at least this often to see whether to stop.
const SLICE: Duration = Duration::from_millis(100);
/// Sleeping for less is not worth the wake-up: what comes due meanwhile is sent in one go, still on schedule.
const TICK: Duration = Duration::from_millis(2);
/// How long a stopped run waits for acknowledgements.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `plan` to its end, or until shutdown is requested. Fails before anything is sent where the topic does not
/// exist or nobody answers; failed deliveries are in the report.
pub async fn run(
    plan: Plan,
    target: Target,
    tally: Arc<Tally>,
    shutdown: Shutdown,
) -> anyhow::Result<Report> {
    if let Target::Kafka(config) = &target {
        tokio::select! {
            found = topics::partitions(config, &config.topic) => { found?; }
            () = shutdown.requested() => return Err(crate::error::Interrupted.into()),
        }
    }
    tokio::task::spawn_blocking(move || Run::prepare(&plan, target, tally, shutdown)?.go(&plan)).await?
}

enum Sink<F: Fn(Delivery) + Send + Sync + 'static> {
    Kafka(Producer<F>),
    Stdout(Box<dyn Write>),
}

struct Run<F: Fn(Delivery) + Send + Sync + 'static> {
    sink: Sink<F>,
    deliveries: Arc<Deliveries>,
    tally: Arc<Tally>,
    shutdown: Shutdown,
    counts: Counts,
}

impl Run<fn(Delivery)> {
    fn prepare(
        plan: &Plan,
        target: Target,
        tally: Arc<Tally>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Run<impl Fn(Delivery) + Send + Sync + 'static>> {
        let ledger = plan
            .ledger
            .as_ref()
            .map(|path| Ledger::open(path).map_err(|source| LedgerError::new(path, source)));
        let deliveries = Arc::new(Deliveries::new(ledger.transpose()?));
        let on_delivery = {
            let (deliveries, tally) = (Arc::clone(&deliveries), Arc::clone(&tally));
            move |delivery| deliveries.note(delivery, &tally)
        };
        let sink = match target {
            Target::Kafka(config) => Sink::Kafka(Producer::new(&config, &config.topic, on_delivery)?),
            Target::Stdout(output) => Sink::Stdout(Box::new(output.stream())),
        };
        Ok(Run { sink, deliveries, tally, shutdown, counts: Counts::default() })
    }
}

impl<F: Fn(Delivery) + Send + Sync + 'static> Run<F> {
    fn go(mut self, plan: &Plan) -> anyhow::Result<Report> {
        let names = match &plan.feed {
            Feed::Fleet(fleet) => fleet.location_names(),
            Feed::Recording(_) => Vec::new(),
        };
        let source = match &plan.feed {
            Feed::Fleet(fleet) => Source::Fleet(Box::new(Fleet::new(fleet, &names))),
            Feed::Recording(recording) => Source::Recording(Box::new(Recording::open(recording)?)),
        };
        let mut stream = Stream::new(source, plan.disorder, plan.seed);
        let begin = Instant::now();
        let mut schedule = Schedule::new(plan.pace, begin);
        // A bad line of a recording ends the run, but not before what was sent is acknowledged and on record.
        let sent = self.send_all(plan, &mut stream, &mut schedule, begin);
        let sending = begin.elapsed();
        let stopped = self.shutdown.is_requested();
        let delivered = self.finish();
        let ended = sent?;
        delivered?;
        let report = self.report(&stream, &schedule, sending, begin.elapsed());
        Ok(Report { interrupted: report.interrupted || (stopped && !ended), ..report })
    }

    /// `true` where the plan's end was reached.
    fn send_all(
        &mut self,
        plan: &Plan,
        stream: &mut Stream<'_>,
        schedule: &mut Schedule,
        begin: Instant,
    ) -> anyhow::Result<bool> {
        let total = total(plan);
        // Past the duration, what fell due before its end is still sent, if the broker keeps up at all.
        let grace = if total == u64::MAX { Duration::ZERO } else { Duration::from_millis(250) };
        let deadline =
            plan.limit.duration.and_then(|duration| begin.checked_add(duration.saturating_add(grace)));
        while self.counts.sent < total {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            let wait = schedule.wait(self.counts.sent, now);
            if !wait.is_zero() && !self.pause(wait, deadline)? {
                return Ok(deadline.is_some_and(|deadline| Instant::now() >= deadline));
            }
            // Asking takes a lock: not for each of the messages that are sent in one go.
            if self.counts.sent.is_multiple_of(64) && self.must_stop() {
                return Ok(false);
            }
            let Some(message) = stream.next_message()? else { break };
            let wait = schedule.wait_for_reading(message.note.recorded_at, now);
            if !wait.is_zero() && !self.pause(wait, deadline)? {
                return Ok(deadline.is_some_and(|deadline| Instant::now() >= deadline));
            }
            if !self.send(message)? {
                return Ok(false);
            }
            self.counts.add(&message.note);
            self.tally.sent.store(self.counts.sent, Relaxed);
        }
        Ok(true)
    }

    fn must_stop(&self) -> bool {
        self.shutdown.is_requested() || self.deliveries.is_broken()
    }

    /// Sleeps until a message is due. `false` where the run must stop, or its time is over, instead.
    fn pause(&mut self, wait: Duration, deadline: Option<Instant>) -> anyhow::Result<bool> {
        if let Sink::Stdout(out) = &mut self.sink {
            closed(out.flush())?;
        }
        let due = Instant::now() + wait.max(TICK);
        loop {
            let now = Instant::now();
            if self.must_stop() || deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
            if now >= due {
                return Ok(true);
            }
            std::thread::sleep((due - now).min(SLICE));
        }
    }

    /// Hands over one message, waiting for room as long as it takes. `false` where the run must stop instead.
    fn send(&mut self, message: &Message) -> anyhow::Result<bool> {
        let producer = match &mut self.sink {
            Sink::Stdout(out) => {
                closed(out.write_all(&message.payload).and_then(|()| out.write_all(b"\n")))?;
                return Ok(true);
            }
            Sink::Kafka(producer) => producer,
        };
        let tag = self.deliveries.tag(&message.note);
        loop {
            match producer.offer(&message.key, &message.payload, tag) {
                Ok(Offer::Accepted) => return Ok(true),
                Ok(Offer::Full) if !(self.shutdown.is_requested() || self.deliveries.is_broken()) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(Offer::Full) => {
                    self.deliveries.forget(tag);
                    return Ok(false);
                }
                Err(error) => {
                    self.deliveries.forget(tag);
                    return Err(error.into());
                }
            }
        }
    }

    /// Waits for the last acknowledgements, then makes the ledger durable.
    fn finish(&mut self) -> anyhow::Result<()> {
        let producer = match &mut self.sink {
            Sink::Stdout(out) => return closed(out.flush()),
            Sink::Kafka(producer) => producer,
        };
        let begin = Instant::now();
        let mut stop_by = None;
        while !producer.flush(SLICE) {
            if self.shutdown.is_requested() {
                stop_by.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
            }
            // The library reports what it cannot deliver in time; the second limit is for one that does not.
            let overdue = begin.elapsed() > DELIVERY_TIMEOUT + STOP_TIMEOUT;
            if overdue || stop_by.is_some_and(|stop_by| Instant::now() >= stop_by) {
                producer.abandon();
                break;
            }
        }
        Ok(self.deliveries.finish()?)
    }

    /// Why the first message that failed did; where the producer has ended, why it has.
    fn first_error(&self) -> Option<String> {
        let first = self.deliveries.first_error()?;
        let end = match &self.sink {
            Sink::Kafka(producer) => producer.end(),
            Sink::Stdout(_) => None,
        };
        Some(end.map_or(first, |end| end.to_string()))
    }

    fn report(
        &self,
        stream: &Stream<'_>,
        schedule: &Schedule,
        sending: Duration,
        elapsed: Duration,
    ) -> Report {
        let acknowledged = self.tally.acknowledged.load(Relaxed);
        let (ahead, bad_lines, ignored_columns) = match stream.source() {
            Source::Fleet(fleet) => (fleet.ahead, 0, Vec::new()),
            Source::Recording(it) => (Duration::ZERO, it.bad, it.ignored_columns().to_vec()),
        };
        let per_second = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        Report {
            counts: self.counts,
            acknowledged,
            failed: self.tally.failed.load(Relaxed),
            first_error: self.first_error(),
            bad_lines,
            ignored_columns,
            sending_seconds: sending.as_secs_f64(),
            elapsed_seconds: elapsed.as_secs_f64(),
            rate: per_second(self.counts.sent, sending),
            acknowledged_rate: per_second(acknowledged, elapsed),
            latency: (acknowledged > 0).then(|| self.deliveries.latency()),
            given_up_seconds: schedule.given_up.as_secs_f64(),
            ahead_seconds: ahead.as_secs_f64(),
            interrupted: false,
        }
    }
}

/// How many messages the plan sends at most: at a rate, a duration is a number of messages too.
fn total(plan: &Plan) -> u64 {
    let by_time = match (plan.pace, plan.limit.duration) {
        (Pace::Rate(rate), Some(duration)) => (rate * duration.as_secs_f64()).round() as u64,
        _ => u64::MAX,
    };
    plan.limit.count.unwrap_or(u64::MAX).min(by_time)
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::error::OutputClosed;

    fn plan(pace: Pace, limit: Limit) -> Plan {
        Plan {
            feed: Feed::Fleet(FleetPlan { sensors: 20, ..Default::default() }),
            disorder: Disorder { malformed: 0.1, duplicate: 0.1, ..Default::default() },
            seed: 1,
            pace,
            limit,
            ledger: None,
        }
    }

    fn broker() -> (MockCluster<'static, impl rdkafka::ClientContext>, Target) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 2, 1).unwrap();
        let config = KafkaConfig {
            bootstrap_servers: vec![cluster.bootstrap_servers()],
            topic: "readings".into(),
            request_timeout: Duration::from_secs(5),
            ..Default::default()
        };
        (cluster, Target::Kafka(Box::new(config)))
    }

    #[tokio::test]
    async fn a_run_sends_what_was_asked_and_the_ledger_holds_all_of_it() {
        let (_cluster, target) = broker();
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger");
        let limit = Limit { count: Some(500), duration: None };
        let plan = Plan { ledger: Some(ledger.clone()), ..plan(Pace::Unbounded, limit) };
        let report = run(plan, target, Arc::default(), Shutdown::new()).await.unwrap();
        assert_eq!((report.counts.sent, report.acknowledged, report.failed), (500, 500, 0));
        assert!(!report.interrupted && report.latency.is_some());
        let text = std::fs::read_to_string(&ledger).unwrap();
        assert_eq!(text.lines().count(), 500);
        let marked = |word: &str| text.lines().filter(|line| line.contains(word)).count() as u64;
        assert_eq!(marked("\"malformed\""), report.counts.malformed);
        assert_eq!(marked("\"duplicate\":true"), report.counts.duplicates);
        assert!(report.counts.malformed > 20 && report.counts.duplicates > 20);
    }

    #[tokio::test]
    async fn a_stopped_run_still_delivers_what_it_took_and_says_that_it_was_stopped() {
        let (_cluster, target) = broker();
        let limit = Limit { count: Some(1_000_000), duration: None };
        let (tally, shutdown) = (Arc::new(Tally::default()), Shutdown::new());
        let work = run(plan(Pace::Rate(1000.0), limit), target, Arc::clone(&tally), shutdown.clone());
        let stop = async {
            while tally.sent.load(Relaxed) < 50 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            shutdown.request();
        };
        let (report, ()) = tokio::join!(work, stop);
        let report = report.unwrap();
        assert!(report.interrupted);
        assert!((50..100_000).contains(&report.counts.sent));
        assert_eq!(report.acknowledged, report.counts.sent);
    }

    #[tokio::test]
    async fn a_rate_and_a_duration_are_a_number_of_messages() {
        let (_cluster, target) = broker();
        let limit = Limit { count: None, duration: Some(Duration::from_millis(1500)) };
        let report =
            run(plan(Pace::Rate(400.0), limit), target, Arc::default(), Shutdown::new()).await.unwrap();
        assert_eq!(report.counts.sent, 600);
        assert!((1.4..2.0).contains(&report.sending_seconds), "{}", report.sending_seconds);
    }

    #[tokio::test]
    async fn a_missing_topic_is_said_before_anything_is_sent() {
        let (_cluster, mut target) = broker();
        if let Target::Kafka(config) = &mut target {
            config.topic = "reading".into();
        }
        let tally = Arc::new(Tally::default());
        let limit = Limit::default();
        let error = run(plan(Pace::Unbounded, limit), target, Arc::clone(&tally), Shutdown::new()).await;
        assert!(error.unwrap_err().to_string().contains("iotctl schema apply"));
        assert_eq!(tally.sent.load(Relaxed), 0);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(closed::<()>(Err(broken)).unwrap_err().is::<OutputClosed>());
    }
}
