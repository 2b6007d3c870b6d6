//! A mosquitto of a test's own, on a loopback address of its own, and clients that are not ours.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

const PORT: u16 = 18_830;

/// It keeps sessions and messages on disk, and is killed at the end.
pub struct Mosquitto {
    pub address: String,
    folder: tempfile::TempDir,
    process: Option<Child>,
    /// Arguments of `mosquitto_pub` that a listener with TLS and passwords asks for.
    login: Vec<String>,
}

impl Mosquitto {
    /// With further lines of mosquitto.conf.
    pub fn start(more: &str) -> anyhow::Result<Self> {
        Self::with_login(Self::own_address(), more, Vec::new())
    }

    /// An address that no other broker of this run has.
    pub fn own_address() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        // Several checkouts may test at once.
        let net = 1 + std::process::id() % 200;
        format!("127.66.{net}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// At an [address of its own](Self::own_address), which certificates may have to name.
    pub fn with_login(address: String, more: &str, login: Vec<String>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let conf = format!(
            "user root\nlistener {PORT} {address}\npersistence true\npersistence_location {}/\n\
             autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\nlog_type error\n{}\n",
            folder.path().display(),
            if more.is_empty() { "allow_anonymous true" } else { more }
        );
        std::fs::write(folder.path().join("mosquitto.conf"), conf)?;
        let mut mosquitto = Self { address, folder, process: None, login };
        mosquitto.run()?;
        Ok(mosquitto)
    }

    /// Starts it, again after a kill.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.folder().join("mosquitto.log"))?;
        // Debian has it where only root's PATH leads.
        let path = ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(path.unwrap_or("mosquitto"))
            .arg("-c")
            .arg(self.folder().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run mosquitto (run tools/setup)")?;
        self.process = Some(child);
        eventually("mosquitto listens", Duration::from_secs(10), || {
            Ok(std::net::TcpStream::connect((self.address.as_str(), PORT)).is_ok())
        })
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}:{PORT}", self.address)
    }

    pub fn url_with_tls(&self) -> String {
        format!("mqtts://{}:{PORT}", self.address)
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process.as_ref().context("it runs")?.id();
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// With SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("it runs")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-V", "5", "-h", &self.address, "-p", &PORT.to_string()]);
        command.args(&self.login).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Publishes one message; `false` if the broker did not acknowledge it.
    pub fn try_publish(&self, topic: &str, payload: &str, more: &[&str]) -> anyhow::Result<bool> {
        let payload: &[&str] = if payload.is_empty() { &["-n"] } else { &["-m", payload] };
        let arguments = [&["-q", "1", "-t", topic], payload, more].concat();
        Ok(self.client(&arguments).stdin(Stdio::null()).status()?.success())
    }

    /// Publishes one message, with further arguments such as `-r`.
    pub fn publish(&self, topic: &str, payload: &str, more: &[&str]) -> anyhow::Result<()> {
        ensure!(self.try_publish(topic, payload, more)?, "mosquitto_pub failed at {topic}");
        Ok(())
    }

    /// Publishes each line as a message of a topic.
    pub fn publish_lines(&self, topic: &str, lines: &str) -> anyhow::Result<()> {
        let mut client = self.client(&["-q", "1", "-l", "-t", topic]).stdin(Stdio::piped()).spawn()?;
        client.stdin.take().context("stdin")?.write_all(lines.as_bytes())?;
        ensure!(client.wait()?.success(), "mosquitto_pub failed at {topic}");
        Ok(())
    }

    /// Publishes a file as one message.
    pub fn publish_file(&self, topic: &str, file: &Path) -> anyhow::Result<()> {
        let file = file.to_str().context("a path")?;
        ensure!(
            self.client(&["-q", "1", "-t", topic, "-f", file]).status()?.success(),
            "mosquitto_pub failed"
        );
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGCONT);
        let _ = self.kill();
    }
}
