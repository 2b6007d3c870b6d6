//! A permission or a password that is withdrawn under a running ingest: it ends with a clear error and not with a
//! loop, and the topic keeps what is not stored.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use iotctl::kafka::topics;

use crate::servers;
use crate::servers::{ADMIN, CASSANDRA, INGEST, KAFKA_STRICT, Place, SENDER};
use crate::support::{self, Finished, Lab};

crate::trials!(
    a_withdrawn_permission_of_cassandra_ends_ingest_without_loss,
    a_changed_password_of_cassandra_ends_ingest_without_loss,
    a_changed_password_of_kafka_ends_ingest_without_loss,
    a_withdrawn_permission_of_kafka_ends_ingest_without_loss,
);

/// How long ingest bears a failure that only a person can mend, and some.
const PATIENCE: Duration = Duration::from_secs(60 + 60);

/// How long it may take to hear of what is not borne at all.
const AT_ONCE: Duration = Duration::from_secs(30);

pub fn send(place: &Place<'_>, count: u32) -> anyhow::Result<()> {
    let count = count.to_string();
    place.lab(SENDER)?.ok(&["-q", "simulate", "--rate", "0", "--count", &count, "--format", "json"])?;
    Ok(())
}

/// An ingest whose stderr is kept; killed when the test fails before its end.
pub struct Ingest {
    child: Child,
    stderr: tempfile::NamedTempFile,
}

impl Ingest {
    /// Starts it and waits until it has stored the first `rows`.
    fn start(lab: &Lab, place: &Place<'_>, rows: i64) -> anyhow::Result<Self> {
        Self::start_as(lab.command(&["-q", "ingest"]), place, rows)
    }

    /// As [`Ingest::start`], by a command line of one's own.
    pub fn start_as(mut command: Command, place: &Place<'_>, rows: i64) -> anyhow::Result<Self> {
        // Into a file: nobody reads a pipe meanwhile.
        let stderr = tempfile::NamedTempFile::new()?;
        let child = command.stdout(Stdio::null()).stderr(stderr.reopen()?).spawn()?;
        let ingest = Self { child, stderr };
        support::eventually("the first rows are stored", Duration::from_secs(40), || {
            Ok(place.stored()? == rows)
        })?;
        Ok(ingest)
    }

    /// What it has written to stderr so far.
    pub fn said(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.stderr.path())?)
    }

    /// Asks it to stop, and waits for that.
    pub fn stop(self) -> anyhow::Result<Finished> {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM)?;
        self.end(AT_ONCE)
    }

    /// Waits until it ends by itself.
    fn end(mut self, patience: Duration) -> anyhow::Result<Finished> {
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait()? {
                break status.code();
            }
            ensure!(started.elapsed() < patience, "it still runs after {patience:?}");
            std::thread::sleep(Duration::from_millis(200));
        };
        let stderr = std::fs::read_to_string(self.stderr.path())?;
        Ok(Finished { code, stdout: String::new(), stderr })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It failed with these words in its last line, and everything that was sent is still to be had.
fn ended_without_loss(
    place: &Place<'_>,
    finished: &Finished,
    words: &[&str],
    sent: i64,
) -> anyhow::Result<()> {
    ensure!(finished.code == Some(1), "{finished:#?}");
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    ensure!(errors.len() == 1, "{finished:#?}");
    for word in words {
        ensure!(errors[0].contains(word), "{word:?} is not in: {}", errors[0]);
    }
    // Whoever may, goes on where it stopped.
    place.lab(ADMIN)?.ingest()?;
    ensure!(place.stored()? == sent, "{} of {sent} rows are stored", place.stored()?);
    let mut kafka = servers().kafka_config(ADMIN);
    kafka.topic.clone_from(&place.name);
    let dead = servers().block_on(topics::end_offsets(&kafka, &place.dead_letter_topic()))?;
    ensure!(dead.iter().sum::<i64>() == 0, "there are dead letters: {dead:?}");
    Ok(())
}

fn a_withdrawn_permission_of_cassandra_ends_ingest_without_loss() -> anyhow::Result<()> {
    let place = servers().place("revoked")?;
    send(&place, 500)?;
    let ingest = Ingest::start(&place.lab(INGEST)?, &place, 500)?;
    servers().cql(&[format!("REVOKE MODIFY ON KEYSPACE {} FROM {INGEST}", place.name)])?;
    std::thread::sleep(Duration::from_secs(2));
    send(&place, 700)?;
    let finished = ingest.end(PATIENCE)?;
    ended_without_loss(&place, &finished, &["denies permission", "MODIFY", "GRANT", "the topic keeps"], 1200)
}

fn a_changed_password_of_cassandra_ends_ingest_without_loss() -> anyhow::Result<()> {
    let place = servers().place("password")?;
    let (password, file) = servers().new_password("changing")?;
    let role = format!("role_of_{}", place.name);
    servers().cql(&[
        format!("CREATE ROLE {role} WITH LOGIN = true AND PASSWORD = '{password}'"),
        format!("GRANT {INGEST} TO {role}"),
    ])?;
    let proxy = Proxy::start(CASSANDRA.parse()?)?;
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_CASSANDRA_USERNAME", &role);
    lab.set("IOTCTL_CASSANDRA_PASSWORD_FILE", &file.display().to_string());
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &proxy.address.to_string());
    lab.set("IOTCTL_CASSANDRA_TLS_SERVER_NAME", "servers.test");
    send(&place, 500)?;
    let ingest = Ingest::start(&lab, &place, 500)?;
    let (other, _) = servers().new_password("changed")?;
    servers().cql(&[format!("ALTER ROLE {role} WITH PASSWORD = '{other}'")])?;
    std::thread::sleep(Duration::from_secs(2));
    // Open connections stay open whatever becomes of the password; the next ones are refused.
    proxy.cut();
    send(&place, 700)?;
    let finished = ingest.end(PATIENCE)?;
    ensure!(!finished.stderr.contains(&password), "the password is shown");
    ended_without_loss(&place, &finished, &["refuses the login", &role, "cassandra.password_file"], 1200)
}

/// A user of Kafka of one's own, with the permissions of `ingest`.
pub struct OwnUser<'a> {
    place: &'a Place<'a>,
    name: String,
}

impl<'a> OwnUser<'a> {
    pub fn make(place: &'a Place<'a>, password: &str) -> anyhow::Result<Self> {
        let user = Self { place, name: format!("user_of_{}", place.name) };
        user.set_password(password)?;
        user.permissions(&["--add"])?;
        Ok(user)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_password(&self, password: &str) -> anyhow::Result<()> {
        let password = format!("SCRAM-SHA-512=[password={password}]");
        let arguments =
            ["--alter", "--entity-type", "users", "--entity-name", &self.name, "--add-config", &password];
        servers().kafka_tool("kafka.admin.ConfigCommand", &arguments.map(str::to_owned))
    }

    /// Whoever shows a certificate of this name.
    pub fn by_certificate(place: &'a Place<'a>, name: &str) -> Self {
        Self { place, name: format!("CN={name}") }
    }

    /// Gives or takes the permissions of `ingest`.
    pub fn permissions(&self, change: &[&str]) -> anyhow::Result<()> {
        self.acl(change, ["--topic", &self.place.name], "Read")?;
        self.acl(change, ["--group", &self.place.name], "Read")?;
        self.acl(change, ["--topic", &self.place.dead_letter_topic()], "Write")
    }

    pub fn acl(&self, change: &[&str], resource: [&str; 2], operation: &str) -> anyhow::Result<()> {
        let principal = format!("User:{}", self.name);
        let arguments =
            [change, &["--allow-principal", &principal, "--operation", operation], &resource].concat();
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        servers().kafka_tool("kafka.admin.AclCommand", &arguments)
    }

    pub fn lab(&self, password_file: &Path) -> anyhow::Result<Lab> {
        let mut lab = self.place.lab(INGEST)?;
        lab.set("IOTCTL_KAFKA_SASL_USERNAME", &self.name);
        lab.set("IOTCTL_KAFKA_SASL_PASSWORD_FILE", &password_file.display().to_string());
        Ok(lab)
    }
}

fn a_changed_password_of_kafka_ends_ingest_without_loss() -> anyhow::Result<()> {
    let place = servers().place("scram")?;
    let (password, file) = servers().new_password("scram")?;
    let user = OwnUser::make(&place, &password)?;
    let mut lab = user.lab(&file)?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA_STRICT);
    send(&place, 500)?;
    let ingest = Ingest::start(&lab, &place, 500)?;
    let (other, _) = servers().new_password("scram_changed")?;
    user.set_password(&other)?;
    let finished = ingest.end(PATIENCE)?;
    ensure!(!finished.stderr.contains(&password), "the password is shown");
    send(&place, 700)?;
    ended_without_loss(&place, &finished, &["refuses the login", &user.name, "kafka.sasl_username"], 1200)
}

fn a_withdrawn_permission_of_kafka_ends_ingest_without_loss() -> anyhow::Result<()> {
    let place = servers().place("acl_gone")?;
    let (password, file) = servers().new_password("acl_gone")?;
    let user = OwnUser::make(&place, &password)?;
    send(&place, 500)?;
    let ingest = Ingest::start(&user.lab(&file)?, &place, 500)?;
    user.acl(&["--remove", "--force"], ["--topic", &place.name], "Read")?;
    send(&place, 700)?;
    let finished = ingest.end(AT_ONCE)?;
    ended_without_loss(&place, &finished, &["does not let this user read the topic", "ACL"], 1200)?;

    user.acl(&["--add"], ["--topic", &place.name], "Read")?;
    send(&place, 300)?;
    let ingest = Ingest::start(&user.lab(&file)?, &place, 1500)?;
    user.acl(&["--remove", "--force"], ["--group", &place.name], "Read")?;
    send(&place, 200)?;
    let finished = ingest.end(AT_ONCE)?;
    ended_without_loss(&place, &finished, &["not authorized for the consumer group", "ACL"], 1700)
}

/// Passes bytes on, until its connections are cut.
pub struct Proxy {
    pub address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.47.8:0")?;
        let address = listener.local_addr()?;
        let streams = Arc::new(Mutex::new(Vec::new()));
        let kept = streams.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let _ = pass(client, target, &kept);
            }
        });
        Ok(Self { address, streams })
    }

    pub fn cut(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(client: TcpStream, target: SocketAddr, kept: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let pairs = [(client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?)];
    for (mut from, mut to) in pairs {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    kept.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
    Ok(())
}
