//! One run: takes messages from the stream when they are due, sends them to Kafka or stdout, waits for the last
//! acknowledgement and reports. A full queue slows the run down; no message that was taken is dropped.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::deliveries::{Deliveries, LedgerError, Tally};
use super::fleet::Fleet;
use super::pace::Schedule;
use super::plan::{Feed, Plan, Target};
use super::recording::Recording;
use super::report::Report;
use super::stream::{Counts, Message, Source, Stream};
use crate::audit::ledger::Ledger;
use crate::kafka::producer::{DELIVERY_TIMEOUT, Delivery, Offer, Producer};
use crate::kafka::topics;
use crate::output::closed;
use crate::shutdown::Shutdown;

/// Longest wait before checking again whether to stop.
const SLICE: Duration = Duration::from_millis(100);
/// Shortest sleep: messages that become due meanwhile are sent together, still on schedule.
const TICK: Duration = Duration::from_millis(2);
/// How long a stopped run waits for acknowledgements.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `plan` to its end, or until shutdown is requested. Fails before anything is sent if the topic does not exist or
/// no broker answers; failed deliveries are in the report.
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
    tokio::task::spawn_blocking(move || Run::prepare(&plan, target, tally, shutdown)?.execute(&plan)).await?
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
    fn execute(mut self, plan: &Plan) -> anyhow::Result<Report> {
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
        // A bad line of a recording ends the run, but only after what was sent is acknowledged and in the ledger.
        let sent = self.send_all(plan, &mut stream, &mut schedule, begin);
        let sending = begin.elapsed();
        let stopped = self.shutdown.is_requested();
        let delivered = self.finish();
        let ended = sent?;
        delivered?;
        let report = self.report(&stream, &schedule, sending, begin.elapsed());
        Ok(Report { interrupted: report.interrupted || (stopped && !ended), ..report })
    }

    /// `true` if the plan's end was reached.
    fn send_all(
        &mut self,
        plan: &Plan,
        stream: &mut Stream<'_>,
        schedule: &mut Schedule,
        begin: Instant,
    ) -> anyhow::Result<bool> {
        let total = plan.total();
        // Messages that were due before the end of the duration are still sent, if the broker keeps up.
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
            // The check takes a lock, so it is not made for each message.
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

    /// Sleeps until a message is due. `false` if the run must stop or its time is over.
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

    /// Sends one message; waits while the queue is full. `false` if the run must stop.
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
            // librdkafka reports what it cannot deliver in time; the second limit is in case it does not.
            let overdue = begin.elapsed() > DELIVERY_TIMEOUT + STOP_TIMEOUT;
            if overdue || stop_by.is_some_and(|stop_by| Instant::now() >= stop_by) {
                producer.abandon();
                break;
            }
        }
        Ok(self.deliveries.finish()?)
    }

    /// Why the first message failed; if the producer has ended, why it ended.
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
        let (ahead, bad_lines, skipped_lines, ignored_columns) = match stream.source() {
            Source::Fleet(fleet) => (fleet.ahead, 0, 0, Vec::new()),
            Source::Recording(it) => (Duration::ZERO, it.bad, it.skipped, it.ignored_columns().to_vec()),
        };
        let per_second = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        Report {
            counts: self.counts,
            acknowledged,
            failed: self.tally.failed.load(Relaxed),
            first_error: self.first_error(),
            bad_lines,
            skipped_lines,
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

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::config::KafkaConfig;
    use crate::error::OutputClosed;
    use crate::simulation::disorder::Disorder;
    use crate::simulation::fleet::FleetPlan;
    use crate::simulation::pace::Pace;
    use crate::simulation::plan::Limit;

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
    async fn a_run_sends_what_was_requested_and_the_ledger_has_all_of_it() {
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
    async fn a_stopped_run_still_delivers_what_it_took_and_reports_that_it_was_stopped() {
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
        let plan = plan(Pace::Rate(400.0), limit);
        assert_eq!(plan.total(), 600);
        // A machine that cannot keep up sends fewer; none sends more, or earlier.
        let report = run(plan, target, Arc::default(), Shutdown::new()).await.unwrap();
        assert!((1..=600).contains(&report.counts.sent), "{}", report.counts.sent);
        let earliest = (report.counts.sent - 1) as f64 / 400.0;
        assert!(report.sending_seconds > earliest - 0.1, "{}", report.sending_seconds);
    }

    #[tokio::test]
    async fn a_missing_topic_is_reported_before_anything_is_sent() {
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
    fn a_reader_that_closed_the_pipe_is_not_a_failure() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(closed::<()>(Err(broken)).unwrap_err().is::<OutputClosed>());
    }
}
