//! The alerts fire in the fault they are for, and the exporter stays quick in it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{GROUP, MONITOR, NODES, TOPIC, command, ok};
use crate::support::{complain, eventually};
use crate::{bench, prometheus};

crate::trials!(
    dead_letters_fire_and_nothing_else_does_before_a_fault,
    an_ingest_that_stops_fires_and_its_lag_grows,
    a_frozen_node_is_said_quickly_and_hangs_no_scrape,
    a_node_that_is_killed_fires,
    a_monitor_ends_cleanly_on_ctrl_c,
);

const PATIENCE: Duration = Duration::from_secs(90);

fn dead_letters_fire_and_nothing_else_does_before_a_fault() -> anyhow::Result<()> {
    bench().fires("DeadLetters", &[("topic", &format!("{TOPIC}.dlq"))], PATIENCE)?;
    for alert in [
        "IngestDown",
        "IngestStopped",
        "CassandraNodeDown",
        "CassandraPeerDown",
        "CassandraUnreachable",
        "KafkaUnreachable",
        "KafkaUnderReplicated",
        "KafkaLeaderless",
        "MonitorDown",
    ] {
        ensure!(bench().is_silent(alert)?, "{alert} fires without a fault");
    }
    // A busy machine may miss a scrape; a target that is there is scraped again.
    eventually("TargetDown is silent", PATIENCE, || bench().is_silent("TargetDown"))?;
    Ok(())
}

fn an_ingest_that_stops_fires_and_its_lag_grows() -> anyhow::Result<()> {
    let mut ingest = bench().running().ingest.take().context("no ingest")?;
    ensure!(ingest.try_wait()?.is_none(), "ingest has ended: {}", bench().said("ingest"));
    kill(Pid::from_raw(i32::try_from(ingest.id())?), Signal::SIGKILL)?;
    ingest.wait()?;
    let labels = [("consumergroup", GROUP), ("topic", TOPIC)];
    bench().fires("IngestDown", &[("job", "ingest")], PATIENCE)?;
    bench().fires("IngestStopped", &labels, PATIENCE)?;
    bench().fires("LagGrowing", &labels, PATIENCE)?;
    // Lag in time grows by a second a second, and so is seen to be the age of one message.
    let query =
        format!("max(kafka_consumergroup_lag_seconds{{consumergroup=\"{GROUP}\",topic=\"{TOPIC}\"}})");
    let lag = || -> anyhow::Result<f64> {
        let samples = bench().quick.query(&query)?;
        let value = samples.first().and_then(|sample| sample["value"][1].as_str()).context("no lag")?;
        Ok(value.parse()?)
    };
    let (first, started) = (lag()?, Instant::now());
    std::thread::sleep(Duration::from_secs(12));
    let (grown, passed) = (lag()? - first, started.elapsed().as_secs_f64());
    ensure!((grown - passed).abs() < 6.0, "{grown:.1} s more lag in {passed:.1} s");
    bench().restart_ingest()?;
    for alert in ["IngestDown", "IngestStopped"] {
        eventually(&format!("{alert} is over"), PATIENCE, || bench().is_silent(alert))?;
    }
    Ok(())
}

fn node_up(node: &str) -> anyhow::Result<Option<bool>> {
    let text = prometheus::get(MONITOR.parse()?, "/metrics")?;
    let start = format!("iotctl_cassandra_node_up{{node=\"{node}\"}} ");
    Ok(text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value == "1"))
}

struct Thaw(Pid);

impl Drop for Thaw {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn a_frozen_node_is_said_quickly_and_hangs_no_scrape() -> anyhow::Result<()> {
    ensure!(node_up(NODES[1])? == Some(true), "{} is not up", NODES[1]);
    let frozen = Thaw(bench().signal("cassandra-2", Signal::SIGSTOP)?);
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    eventually("a frozen node is down", Duration::from_secs(15), || {
        let scrape = Instant::now();
        let is_up = node_up(NODES[1])?;
        slowest = slowest.max(scrape.elapsed());
        Ok(is_up == Some(false))
    })?;
    complain(&format!(
        "  said after {:.1} s; the slowest scrape took {} ms",
        started.elapsed().as_secs_f64(),
        slowest.as_millis()
    ));
    ensure!(slowest < Duration::from_secs(1), "a scrape took {slowest:?}");
    ensure!(node_up(NODES[0])? == Some(true), "the other node is said to be down");
    drop(frozen);
    eventually("it is up again", PATIENCE, || Ok(node_up(NODES[1])? == Some(true)))
}

fn a_node_that_is_killed_fires() -> anyhow::Result<()> {
    bench().signal("cassandra-2", Signal::SIGKILL)?;
    bench().fires("CassandraNodeDown", &[("node", NODES[1])], PATIENCE)?;
    bench().fires("CassandraPeerDown", &[("node", NODES[0]), ("peer", "127.0.48.2")], PATIENCE)?;
    bench().fires("TargetDown", &[("job", "cassandra")], PATIENCE)?;
    ok(&["-q", "up"])?;
    for alert in ["CassandraNodeDown", "CassandraPeerDown"] {
        eventually(&format!("{alert} is over"), PATIENCE, || bench().is_silent(alert))?;
    }
    Ok(())
}

fn a_monitor_ends_cleanly_on_ctrl_c() -> anyhow::Result<()> {
    let mut monitor =
        command(&["-q", "monitor", "--metrics-addr", "127.0.48.1:9466", "--interval", "1s"]).spawn()?;
    let address = "127.0.48.1:9466".parse()?;
    eventually("the monitor is ready", PATIENCE, || Ok(prometheus::get(address, "/readyz").is_ok()))?;
    kill(Pid::from_raw(i32::try_from(monitor.id())?), Signal::SIGINT)?;
    let started = Instant::now();
    let code = monitor.wait()?.code();
    ensure!(
        code == Some(0) && started.elapsed() < Duration::from_secs(3),
        "{code:?} {:?}",
        started.elapsed()
    );
    Ok(())
}
