//! What every fault stands on: three nodes and a broker that can be killed and frozen, a load through them, a watch
//! on its progress, and the audit at the end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iotctl::config::KafkaConfig;
use iotctl::kafka::Producer;
use iotctl::kafka::producer::Offer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Program, complain, eventually};

pub const NODES: [&str; 3] = ["127.0.43.1", "127.0.43.2", "127.0.43.3"];
pub const BROKERS: [&str; 3] = ["127.0.43.11", "127.0.43.12", "127.0.43.13"];
const PARTITIONS: &str = "4";

/// A cluster of `up`.
pub struct Servers(Program);

impl Deref for Servers {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl Servers {
    /// Three nodes and a broker.
    pub fn with_three_nodes() -> anyhow::Result<Self> {
        Self::start("fault-servers", "up --nodes 3", &NODES, &NODES[..1], "17899")
    }

    /// A node and three brokers.
    pub fn with_three_brokers() -> anyhow::Result<Self> {
        Self::start("fault-brokers", "up --kafka-brokers 3", &BROKERS[..1], &BROKERS, "17789")
    }

    /// Two nodes and a broker, for operations that fail.
    pub fn with_two_nodes() -> anyhow::Result<Self> {
        let first = "127.0.43.21";
        let servers =
            Self::start("fault-members", "up --nodes 2", &[first, "127.0.43.22"], &[first], "17689")?;
        servers.ok("-q schema apply --replication-factor 1")?;
        Ok(servers)
    }

    fn start(
        folder: &str,
        up: &str,
        nodes: &[&str],
        brokers: &[&str],
        jmx_port: &str,
    ) -> anyhow::Result<Self> {
        let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
        let at = |addresses: &[&str], port: u16| {
            addresses.iter().map(|address| format!("{address}:{port}")).collect::<Vec<_>>().join(",")
        };
        let program = Program::new([
            ("IOTCTL_LOCAL_ADDRESS", nodes[0]),
            ("IOTCTL_LOCAL_DATA_DIR", data.to_str().context("a target directory with a UTF-8 path")?),
            ("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17800"),
            ("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", jmx_port),
            ("IOTCTL_CASSANDRA_CONTACT_POINTS", &at(nodes, 9042)),
            ("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", &at(brokers, 9092)),
            ("IOTCTL_KAFKA_PARTITIONS", PARTITIONS),
        ]);
        // What a killed run left.
        if std::env::var_os("IOTCTL_TEST_KEEP").is_none() {
            program.purge()?;
        }
        let status = program.command(up).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "`iotctl {up}` failed");
        Ok(Self(program))
    }

    pub fn stop(&self) -> anyhow::Result<()> {
        if std::env::var_os("IOTCTL_TEST_KEEP").is_some() {
            return Ok(());
        }
        self.purge()
    }

    /// The processes.
    pub fn status(&self) -> anyhow::Result<Vec<Value>> {
        let output = self.command("-q status --local --format json").output()?;
        let status: Value = serde_json::from_slice(&output.stdout).context("`iotctl status` gave no JSON")?;
        Ok(status["local"].as_array().context("`iotctl status` lists no servers")?.clone())
    }

    pub fn pid(&self, server: &str) -> anyhow::Result<Pid> {
        let status = self.status()?;
        let found = status.iter().find(|status| status["server"] == server);
        let pid =
            found.and_then(|status| status["pid"].as_i64()).context(format!("{server} does not run"))?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    /// The directory of a server.
    pub fn dir(&self, server: &str) -> PathBuf {
        PathBuf::from(self.setting("IOTCTL_LOCAL_DATA_DIR")).join(server)
    }

    /// Sends a signal to a server such as `cassandra-1`, `kafka` or `kafka-2`.
    pub fn signal(&self, server: &str, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.pid(server)?, signal)?)
    }

    /// Tells a server to end, and waits until it has.
    pub fn terminate(&self, server: &str) -> anyhow::Result<()> {
        let pid = self.pid(server)?;
        kill(pid, Signal::SIGTERM)?;
        eventually("the server ends", Duration::from_secs(60), || Ok(kill(pid, None).is_err()))
    }

    /// Freezes a server, which then holds its connections and says nothing. It thaws when dropped.
    pub fn freeze(&self, server: &str) -> anyhow::Result<Frozen> {
        let pid = self.pid(server)?;
        kill(pid, Signal::SIGSTOP)?;
        Ok(Frozen(pid))
    }

    /// Starts what does not run, and waits until all answer.
    pub fn up(&self) -> anyhow::Result<()> {
        self.ok("-q up").map(|_| ())
    }
}

pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// One fault's keyspace, topic, ledger and load.
pub struct Bench {
    pub name: String,
    program: Program,
    ledger: PathBuf,
    folder: PathBuf,
    watch: Watch,
    ingests: Vec<Child>,
    simulate: Option<Child>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub audit: Value,
    pub stall: Duration,
    pub rates: Vec<(Duration, u64)>,
    /// Rows written by all ingests that were not killed unseen, those written twice included.
    pub written: u64,
}

impl Deref for Bench {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Bench {
    /// On the three nodes and the broker.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        Self::on(crate::servers(), name)
    }

    pub fn on(servers: &Servers, name: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("f{}_{}_{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut program = servers.0.clone();
        for variable in ["IOTCTL_CASSANDRA_KEYSPACE", "IOTCTL_KAFKA_TOPIC", "IOTCTL_KAFKA_GROUP"] {
            program.set(variable, &unique);
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults").join(&unique);
        std::fs::create_dir_all(&folder)?;
        let bench = Self {
            name: name.to_owned(),
            program,
            ledger: folder.join("ledger"),
            folder,
            watch: Watch::new(),
            ingests: Vec::new(),
            simulate: None,
        };
        bench.ok("-q schema apply")?;
        Ok(bench)
    }

    pub fn topic(&self) -> &str {
        self.setting("IOTCTL_KAFKA_TOPIC")
    }

    fn log(&self, name: &str) -> anyhow::Result<Stdio> {
        Ok(File::options().create(true).append(true).open(self.folder.join(name))?.into())
    }

    /// Starts a load of disorderly readings that all go into the ledger.
    pub fn load(&mut self, rate: u32, seconds: u32) -> anyhow::Result<()> {
        self.load_with(rate, seconds, "--malformed 0.001")
    }

    pub fn load_with(&mut self, rate: u32, seconds: u32, more: &str) -> anyhow::Result<()> {
        let ledger = self.ledger.to_str().context("a path in UTF-8")?.to_owned();
        let disorder = "--late 0.01 --duplicate 0.01 --out-of-order 0.01 --missing 0.05";
        let mut command = self.command(&format!(
            "-q simulate --rate {rate} --duration {seconds}s --ledger '{ledger}' --sensors 500 {disorder} {more}"
        ));
        self.simulate = Some(command.stdout(Stdio::null()).stderr(self.log("simulate.log")?).spawn()?);
        Ok(())
    }

    /// Sends messages of its own beside the load, which are not in the ledger.
    pub fn send(&self, messages: Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
        let config = KafkaConfig {
            bootstrap_servers: vec![self.setting("IOTCTL_KAFKA_BOOTSTRAP_SERVERS").to_owned()],
            ..Default::default()
        };
        let failed = Arc::new(AtomicU32::new(0));
        let count = failed.clone();
        let producer = Producer::new(&config, self.topic(), move |delivery| {
            count.fetch_add(u32::from(delivery.outcome.is_err()), Ordering::Relaxed);
        })?;
        for (key, payload) in messages {
            while producer.offer(key.as_bytes(), &payload, 0)? == Offer::Full {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ensure!(producer.flush(Duration::from_secs(30)), "not everything was delivered");
        ensure!(failed.load(Ordering::Relaxed) == 0, "not everything was acknowledged");
        Ok(())
    }

    /// Starts one more ingest, watched by its metrics. Returns its number.
    pub fn ingest(&mut self) -> anyhow::Result<usize> {
        static PORT: AtomicU16 = AtomicU16::new(17900 + 100);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let address = format!("{}:{port}", self.setting("IOTCTL_LOCAL_ADDRESS"));
        let mut command = self.command(&format!("-q ingest --metrics-addr {address}"));
        let child = command.stdout(Stdio::null()).stderr(self.log("ingest.log")?).spawn()?;
        self.ingests.push(child);
        self.watch.add(address);
        Ok(self.ingests.len() - 1)
    }

    pub fn kill_ingest(&mut self, index: usize, signal: Signal) -> anyhow::Result<()> {
        let child = &mut self.ingests[index];
        ensure!(child.try_wait()?.is_none(), "ingest ended by itself, see {}", self.folder.display());
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        child.wait()?;
        Ok(())
    }

    pub fn ingest_runs(&mut self, index: usize) -> anyhow::Result<bool> {
        Ok(self.ingests[index].try_wait()?.is_none())
    }

    /// Waits until something is being stored.
    pub fn await_flow(&self) -> anyhow::Result<()> {
        let before = self.watch.rows();
        eventually("rows are stored", Duration::from_secs(30), || Ok(self.watch.rows() > before + 1000))
    }

    pub fn rows(&self) -> u64 {
        self.watch.rows()
    }

    /// Where the run is now, on the clock of [`Outcome::rate`].
    pub fn now(&self) -> Duration {
        self.watch.started.elapsed()
    }

    /// A counter or gauge of an ingest.
    pub fn metric(&self, index: usize, name: &str) -> anyhow::Result<f64> {
        let address = self.watch.address(index);
        scrape(&address, name).with_context(|| format!("{address} has no {name}"))
    }

    /// The most memory that an ingest has had, in bytes.
    pub fn peak_memory(&self, index: usize) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.ingests[index].id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kibibytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kibibytes * 1024)
    }

    /// Lets the load end, drains what is left, and audits everything against the ledger.
    pub fn finish(mut self) -> anyhow::Result<Outcome> {
        if let Some(mut simulate) = self.simulate.take() {
            let status = simulate.wait()?;
            ensure!(status.success(), "simulate failed, see {}", self.folder.display());
        }
        let (stall, rates) = self.watch.stop();
        for child in &mut self.ingests {
            if child.try_wait()?.is_none() {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
                child.wait()?;
            }
        }
        let report = self.json("-q ingest --until-end --format json")?;
        let drained = report["rows"].as_u64().unwrap_or(0);
        let (audit, code) = self.audit()?;
        let written = rates.last().map_or(0, |(_, rows)| *rows) + drained;
        let outcome = Outcome { audit, stall, rates, written };
        outcome.print(&self.name);
        ensure!(code == Some(0) && outcome.audit["is_sound"] == true, "unsound: {:#}", outcome.audit);
        ensure!(outcome.audit["topic"]["not_committed"] == 0, "not drained: {:#}", outcome.audit);
        ensure!(outcome.audit["compared"]["stored"].as_u64() > Some(0), "nothing ran: {:#}", outcome.audit);
        std::fs::remove_dir_all(&self.folder)?;
        Ok(outcome)
    }

    /// The audit's report and exit code.
    pub fn audit(&self) -> anyhow::Result<(Value, Option<i32>)> {
        let mut arguments = vec!["-q", "audit", "--format", "json"];
        let ledger = self.ledger.to_str().context("a path in UTF-8")?;
        if self.ledger.exists() {
            arguments.extend(["--ledger", ledger]);
        }
        let output = self.command(&arguments).output()?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((report, output.status.code()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in self.ingests.iter_mut().chain(self.simulate.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Outcome {
    fn print(&self, name: &str) {
        let audit = &self.audit;
        complain(&format!(
            "  {name}: {} acknowledged, {} stored, {} missing, {} dead letters, {} rows written beyond, longest stall {:.1} s",
            audit["ledger"]["entries"],
            audit["compared"]["stored"],
            audit["troubles"]["missing"]["readings"],
            audit["topic"]["dead_letters"],
            self.written.saturating_sub(audit["compared"]["stored"].as_u64().unwrap_or(0)),
            self.stall.as_secs_f64()
        ));
    }

    /// Rows a second between two moments of the run.
    pub fn rate(&self, from: Duration, to: Duration) -> f64 {
        let at = |moment: Duration| {
            self.rates.iter().take_while(|(at, _)| *at <= moment).last().copied().unwrap_or_default()
        };
        let ((first, before), (last, after)) = (at(from), at(to));
        (after - before) as f64 / (last - first).as_secs_f64().max(0.001)
    }
}

/// Looks at all ingests' counters ten times a second.
struct Watch {
    started: Instant,
    shared: Arc<Mutex<Seen>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// Addresses and what each has counted; of one that is gone, the last count.
    counts: Vec<(String, u64)>,
    samples: Vec<(Duration, u64)>,
}

impl Watch {
    fn new() -> Self {
        Self { started: Instant::now(), shared: Arc::default(), stopping: Arc::default(), thread: None }
    }

    fn address(&self, index: usize) -> String {
        self.shared.lock().expect("no panic while locked").counts[index].0.clone()
    }

    fn add(&mut self, address: String) {
        self.shared.lock().expect("no panic while locked").counts.push((address, 0));
        if self.thread.is_none() {
            let (shared, stopping, started) = (self.shared.clone(), self.stopping.clone(), self.started);
            self.thread = Some(std::thread::spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    look(&shared, started);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }));
        }
    }

    fn rows(&self) -> u64 {
        self.shared.lock().expect("no panic while locked").counts.iter().map(|(_, rows)| rows).sum()
    }

    /// The longest time without a new row after the first, and all samples.
    fn stop(&mut self) -> (Duration, Vec<(Duration, u64)>) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let samples = std::mem::take(&mut self.shared.lock().expect("no panic while locked").samples);
        let (mut longest, mut at) = (Duration::ZERO, Duration::ZERO);
        let mut last_change = None;
        for pair in samples.windows(2) {
            if pair[1].1 > pair[0].1 {
                if let Some(last_change) = last_change
                    && pair[1].0 - last_change > longest
                {
                    (longest, at) = (pair[1].0 - last_change, last_change);
                }
                last_change = Some(pair[1].0);
            }
        }
        complain(&format!("  the longest stall began {:.1} s after the start", at.as_secs_f64()));
        (longest, samples)
    }
}

fn look(shared: &Mutex<Seen>, started: Instant) {
    let addresses: Vec<String> = shared
        .lock()
        .expect("no panic while locked")
        .counts
        .iter()
        .map(|(address, _)| address.clone())
        .collect();
    for (index, address) in addresses.iter().enumerate() {
        if let Some(rows) = scrape(address, "iotctl_ingest_rows_total") {
            shared.lock().expect("no panic while locked").counts[index].1 = rows as u64;
        }
    }
    let mut seen = shared.lock().expect("no panic while locked");
    let total = seen.counts.iter().map(|(_, rows)| rows).sum();
    seen.samples.push((started.elapsed(), total));
}

fn scrape(address: &str, name: &str) -> Option<f64> {
    let timeout = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
