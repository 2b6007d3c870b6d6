//! Two nodes and Kafka with `up --monitoring`, a load with dead letters, an ingest, a monitor, and two Prometheus: the
//! one of `up`, and one of the tests' own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::prometheus::{Api, Prometheus};
use crate::support::{Program, Words, complain, eventually};

pub const ADDRESS: &str = "127.0.48.1";
pub const NODES: [&str; 2] = ["127.0.48.1:9042", "127.0.48.2:9042"];
pub const TOPIC: &str = "iot-analytics-topic";
pub const GROUP: &str = "iotctl-ingest";
const INGEST: &str = "127.0.48.1:9464";
pub const MONITOR: &str = "127.0.48.1:9465";

pub const MISSING_REMEDY: [(&str, &str); 3] = [
    ("prometheus", "apt install prometheus"),
    ("promtool", "apt install prometheus"),
    ("prometheus-node-exporter", "apt install prometheus-node-exporter"),
];

pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("monitoring-servers")
}

fn program() -> Program {
    let data = data();
    Program::new([
        ("IOTCTL_LOCAL_ADDRESS", ADDRESS),
        ("IOTCTL_LOCAL_DATA_DIR", data.to_str().expect("a target directory with a UTF-8 path")),
        ("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17950"),
        ("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", "17990"),
        ("IOTCTL_LOCAL_INGEST_METRICS", INGEST),
        ("IOTCTL_LOCAL_MONITOR_METRICS", MONITOR),
        ("IOTCTL_CASSANDRA_CONTACT_POINTS", "127.0.48.1:9042,127.0.48.2:9042"),
        ("IOTCTL_SCHEMA_REPLICATION_FACTOR", "1"),
        ("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", "127.0.48.1:9092"),
        ("IOTCTL_KAFKA_PARTITIONS", "3"),
    ])
}

pub fn command(arguments: impl Words) -> Command {
    program().command(arguments)
}

/// Stops the servers and deletes their data.
pub fn down() -> bool {
    let status = command("-q down --purge --yes").stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub struct Bench {
    folder: tempfile::TempDir,
    /// Those that are to end before the servers do.
    running: Mutex<Running>,
    /// The one of `up`.
    pub shipped: Api,
    /// The tests' own.
    pub quick: Api,
}

#[derive(Default)]
pub struct Running {
    pub ingest: Option<Child>,
    pub simulate: Option<Child>,
    pub monitor: Option<Child>,
    prometheus: Option<Prometheus>,
}

impl Bench {
    pub fn start() -> anyhow::Result<Self> {
        // What a killed run left.
        program().purge()?;
        let up = command("up --nodes 2 --monitoring").stdout(Stdio::null()).status()?;
        ensure!(up.success(), "`iotctl up --monitoring` failed");
        ok("-q schema apply")?;
        let address = |port| -> anyhow::Result<SocketAddr> { Ok(format!("{ADDRESS}:{port}").parse()?) };
        let bench = Self {
            folder: tempfile::tempdir()?,
            running: Mutex::default(),
            shipped: Api(address(9090)?),
            quick: Api(address(19090)?),
        };
        {
            let mut running = bench.running();
            let fleet = "simulate --rate 400 --duration 1h --sensors 200 --malformed 0.01";
            running.simulate = Some(bench.spawn("simulate", fleet)?);
            running.ingest = Some(bench.spawn_ingest()?);
            let monitor = format!("monitor --metrics-addr {MONITOR} --interval 2s");
            running.monitor = Some(bench.spawn("monitor", &monitor)?);
        }
        // These two listen elsewhere than by default, as the settings say.
        let targets = data().join("prometheus/targets");
        let copy = bench.folder.path().join("targets");
        std::fs::create_dir(&copy)?;
        for entry in std::fs::read_dir(&targets)? {
            let entry = entry?;
            std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        bench.running().prometheus = Some(Prometheus::start(bench.folder.path(), bench.quick.0)?);
        Ok(bench)
    }

    pub fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn spawn(&self, name: &str, arguments: impl Words) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.path().join(name))?;
        Ok(command("-q").args(arguments.words()).stdout(Stdio::null()).stderr(log).spawn()?)
    }

    /// What a command that was spawned has said.
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    pub fn restart_ingest(&self) -> anyhow::Result<()> {
        self.running().ingest = Some(self.spawn_ingest()?);
        Ok(())
    }

    /// One that detects, so that there are alerts to look at.
    fn spawn_ingest(&self) -> anyhow::Result<Child> {
        let rules = self.folder.path().join("rules.toml");
        let warm = "[[rule]]\nname = \"warm\"\nmetric = \"temperature\"\nthreshold = { above = 15 }\n";
        std::fs::write(&rules, warm)?;
        let rules = rules.to_str().context("a path in UTF-8")?;
        self.spawn("ingest", &format!("ingest --metrics-addr {INGEST} --detect '{rules}'"))
    }

    /// Sends a signal to a server by its name in `iotctl status`.
    pub fn signal(&self, server: &str, signal: Signal) -> anyhow::Result<Pid> {
        let status = program().json("-q status --local --format json")?;
        let servers = status["local"].as_array().context("no servers")?.clone();
        let found = servers.iter().find(|found| found["server"] == server);
        let pid = found.and_then(|found| found["pid"].as_i64()).context(format!("{server} does not run"))?;
        let pid = Pid::from_raw(i32::try_from(pid)?);
        kill(pid, signal)?;
        Ok(pid)
    }

    pub fn stop(&self) -> anyhow::Result<()> {
        let mut running = std::mem::take(&mut *self.running());
        for child in [&mut running.ingest, &mut running.simulate, &mut running.monitor].into_iter().flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(running);
        ensure!(down(), "`iotctl down` failed");
        // `down` stops what `up --monitoring` started, and nothing keeps a port.
        for port in [9090, 9100, 9042, 9092] {
            ensure!(
                std::net::TcpStream::connect((ADDRESS, port)).is_err(),
                "something still listens on {ADDRESS}:{port}"
            );
        }
        Ok(())
    }

    /// Waits until an alert fires whose labels hold all of `labels`.
    pub fn fires(&self, alert: &str, labels: &[(&str, &str)], patience: Duration) -> anyhow::Result<()> {
        let mut firing = Vec::new();
        let started = std::time::Instant::now();
        let waited = eventually(&format!("{alert} fires"), patience, || {
            firing = self.quick.firing()?;
            Ok(firing.iter().any(|found| {
                found["alertname"] == alert && labels.iter().all(|(name, value)| found[*name] == *value)
            }))
        });
        waited.with_context(|| format!("what fires: {firing:?}"))?;
        complain(&format!("  {alert} fired after {:.0} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    pub fn is_silent(&self, alert: &str) -> anyhow::Result<bool> {
        Ok(self.quick.firing()?.iter().all(|found| found["alertname"] != alert))
    }
}

/// Runs a command that must succeed and returns its stdout.
pub fn ok(arguments: impl Words) -> anyhow::Result<String> {
    program().ok(arguments)
}
