//! What the tests stand on: the servers, and for each test a lab with its own keyspace, topic and group.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iotctl::cassandra::{Rows, Session};
use iotctl::config::{Config, KafkaConfig};
use iotctl::kafka::Producer;
use iotctl::kafka::producer::Offer;
use iotctl::kafka::topics;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

/// Names each function of a module as a test, `module::function`.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$(libtest_mimic::Trial::test(format!("{module}::{}", stringify!($name)), || {
                $name().map_err(|error| libtest_mimic::Failed::from(format!("{error:#}")))
            })),+]
        }
    };
}
pub(crate) use trials;

pub const CASSANDRA: &str = "127.0.42.1:19042";
pub const KAFKA: &str = "127.0.42.1:19192";

/// Where nothing listens.
pub const NOBODY: &str = "127.0.42.99:1";

/// Settings of the tests' own servers, as environment variables.
fn server_settings() -> BTreeMap<String, String> {
    // Several checkouts can share one set of servers, which IOTCTL_TEST_KEEP leaves up.
    let data = match std::env::var_os("IOTCTL_TEST_SERVERS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("servers"),
    };
    [
        ("IOTCTL_LOCAL_ADDRESS", "127.0.42.1"),
        ("IOTCTL_LOCAL_DATA_DIR", data.to_str().expect("a target directory with a UTF-8 path")),
        ("IOTCTL_LOCAL_CASSANDRA_PORT", "19042"),
        ("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17100"),
        ("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", "17299"),
        ("IOTCTL_LOCAL_KAFKA_PORT", "19192"),
        ("IOTCTL_LOCAL_KAFKA_CONTROLLER_PORT", "19193"),
        ("IOTCTL_LOCAL_ZOOKEEPER_PORT", "12181"),
        // What the machine has is not what is tested.
        ("IOTCTL_LOCAL_LEAST_FREE_DISK", "1MiB"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The binary under test, away from any configuration of the user's.
pub fn binary(settings: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iotctl"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IOTCTL_") && name != "IOTCTL_JAVA")
    {
        command.env_remove(name);
    }
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    command.current_dir(&home).env("XDG_CONFIG_HOME", home.join("config")).stdin(Stdio::null());
    command.envs(settings);
    command
}

/// The servers that all tests share.
pub struct Servers {
    settings: BTreeMap<String, String>,
}

impl Servers {
    pub fn start() -> anyhow::Result<Self> {
        let settings = server_settings();
        let up =
            binary(&settings).arg("up").stdout(Stdio::null()).status().context("cannot run `iotctl up`")?;
        ensure!(up.success(), "`iotctl up` failed");
        Ok(Self { settings })
    }

    pub fn stop(self) -> anyhow::Result<()> {
        if std::env::var_os("IOTCTL_TEST_KEEP").is_some() {
            return Ok(());
        }
        // The data goes too: a test run starts from nothing.
        let down =
            binary(&self.settings).args(["-q", "down", "--purge", "--yes"]).stdout(Stdio::null()).status()?;
        ensure!(down.success(), "`iotctl down` failed");
        Ok(())
    }
}

/// One test's own corner of the servers.
pub struct Lab {
    /// Keyspace and topic.
    pub name: String,
    settings: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
}

/// A finished command.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Lab {
    /// A lab without schema or topics.
    pub fn bare(name: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}_{}_{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name: String = name.chars().take(46).collect();
        let mut settings = server_settings();
        for (key, value) in [
            ("IOTCTL_CASSANDRA_CONTACT_POINTS", CASSANDRA),
            ("IOTCTL_CASSANDRA_KEYSPACE", &name),
            ("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA),
            ("IOTCTL_KAFKA_TOPIC", &name),
            ("IOTCTL_KAFKA_GROUP", &name),
            ("IOTCTL_KAFKA_PARTITIONS", "4"),
        ] {
            settings.insert(key.into(), value.into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { name, settings, runtime })
    }

    /// A lab with schema and topics.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let lab = Self::bare(name)?;
        lab.ok(&["-q", "schema", "apply"])?;
        Ok(lab)
    }

    /// The same lab with another setting, such as ("IOTCTL_SCHEMA_BUCKET", "5m").
    pub fn set(&mut self, variable: &str, value: &str) {
        self.settings.insert(variable.into(), value.into());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(&self.settings);
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        Ok(self.command(arguments).output()?.into())
    }

    /// Runs a command that must succeed and gives its stdout.
    pub fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let finished = self.run(arguments)?;
        ensure!(finished.code == Some(0), "iotctl {} failed: {finished:#?}", arguments.join(" "));
        Ok(finished.stdout)
    }

    /// Runs a command that must fail with `code` and gives its stderr, which must be one line.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
        let finished = self.run(arguments)?;
        ensure!(
            finished.code == Some(code),
            "iotctl {} should exit {code}: {finished:#?}",
            arguments.join(" ")
        );
        let lines: Vec<_> = finished.stderr.lines().filter(|line| !line.starts_with("note:")).collect();
        ensure!(lines.len() == 1, "the error should be one line: {}", finished.stderr);
        Ok(finished.stderr)
    }

    /// Starts a command that runs beside the test.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Running(child))
    }

    /// Drains the topic and gives the report.
    pub fn ingest(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.ok(&["-q", "ingest", "--until-end", "--format", "json"])?)?)
    }

    /// NDJSON lines of a command's stdout.
    pub fn lines(&self, arguments: &[&str]) -> anyhow::Result<Vec<serde_json::Value>> {
        self.ok(arguments)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The rows that `query` gives of plant-1 and a device type, with further arguments.
    pub fn query(&self, device_type: &str, arguments: &[&str]) -> anyhow::Result<Vec<serde_json::Value>> {
        let group =
            ["-q", "query", "--location", "plant-1", "--device-type", device_type, "--format", "ndjson"];
        self.lines(&[&group[..], arguments].concat())
    }

    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig { bootstrap_servers: vec![KAFKA.into()], topic: self.name.clone(), ..Default::default() }
    }

    /// Sends messages as any client would: a key and bytes. Returns once all are acknowledged.
    pub fn send(&self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) -> anyhow::Result<usize> {
        let acknowledged = Arc::new(AtomicU32::new(0));
        let count = acknowledged.clone();
        let producer = Producer::new(&self.kafka(), &self.name, move |delivery| {
            count.fetch_add(u32::from(delivery.outcome.is_ok()), Ordering::Relaxed);
        })?;
        let mut sent = 0;
        for (key, payload) in messages {
            while producer.offer(key.as_bytes(), &payload, sent)? == Offer::Full {
                std::thread::sleep(Duration::from_millis(5));
            }
            sent += 1;
        }
        ensure!(producer.flush(Duration::from_secs(30)), "not everything was delivered in 30 s");
        ensure!(acknowledged.load(Ordering::Relaxed) as usize == sent, "not everything was acknowledged");
        Ok(sent)
    }

    /// Deletes a topic, and waits until the broker has forgotten it.
    pub fn delete_topic(&self, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", KAFKA).create()?;
        let results = self.runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new()))?;
        ensure!(results.iter().all(Result::is_ok), "{results:?}");
        eventually("the topic is gone", Duration::from_secs(10), || {
            Ok(self.runtime.block_on(topics::partitions(&self.kafka(), topic)).is_err())
        })
    }

    /// A session on the lab's keyspace.
    pub fn session(&self) -> anyhow::Result<Session> {
        let mut config = Config::default().cassandra;
        config.contact_points = vec![CASSANDRA.into()];
        config.keyspace = self.name.clone();
        Ok(self.runtime.block_on(Session::connect(&config))?)
    }

    /// All rows of a statement in which `{ks}` stands for the keyspace.
    pub fn cql(&self, cql: &str) -> anyhow::Result<Rows> {
        let session = self.session()?;
        Ok(self.runtime.block_on(session.query(&cql.replace("{ks}", &self.name)))?)
    }

    /// Raw rows in the table.
    pub fn stored(&self) -> anyhow::Result<i64> {
        let rows = self.cql("SELECT count(*) FROM {ks}.iot_sensor_metrics")?;
        Ok(rows.first().context("a count has a row")?.get(0)?)
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// A command that is killed when the test is done with it.
pub struct Running(Child);

impl Running {
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        Ok(self.0.wait()?.code())
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `condition` holds, or says what it waited for.
pub fn eventually(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(started.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The metrics that a command serves.
pub fn scrape(address: &str) -> anyhow::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A line on stderr; the tests' own main has no other way to say that it cannot begin.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The wire format's four required fields and whatever else `rest` holds (with a leading comma).
pub fn message(location: &str, sensor: u128, recorded_at: i64, rest: &str) -> (String, Vec<u8>) {
    let id = uuid::Uuid::from_u128(sensor);
    let json = format!(
        r#"{{"location":"{location}","device_type":"thermostat","iot_sensor_id":"{id}","recorded_timestamp":{recorded_at}{rest}}}"#
    );
    (id.to_string(), json.into_bytes())
}
