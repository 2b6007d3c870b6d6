//! What a service tells systemd (sd_notify(3)): that it has started, what it waits for, and that its work still moves. Where
//! the work hangs, the signs of life end, and systemd restarts the service after `WatchdogSec`.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::debug;

use super::Health;
use crate::shutdown::Shutdown;

/// How often the state is reported where systemd has set no time for the watchdog.
const REPORT_INTERVAL: Duration = Duration::from_secs(20);

/// Where and how often to report, by the variables that systemd sets.
#[derive(Debug)]
struct Supervisor {
    socket: UnixDatagram,
    address: SocketAddr,
    interval: Duration,
}

/// Reports for as long as the process runs; does nothing where systemd has not started it. Call it once the service can
/// work.
pub fn watch(health: Health, shutdown: Shutdown) {
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(supervisor) = Supervisor::from_variables(variable, std::process::id()) {
        tokio::spawn(supervisor.run(health, shutdown));
    }
}

impl Supervisor {
    fn from_variables(variable: impl Fn(&str) -> Option<String>, own_pid: u32) -> Option<Self> {
        let path = variable("NOTIFY_SOCKET")?;
        let address = address(&path);
        let socket = UnixDatagram::unbound().and_then(|socket| Ok((socket, address?)));
        let (socket, address) =
            socket.inspect_err(|error| debug!(path, %error, "cannot reach the supervisor")).ok()?;
        // Of another process, where a parent has kept its environment.
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|micros| micros.parse().ok());
        // Twice in the time, with a reserve.
        let interval = watchdog.map_or(REPORT_INTERVAL, |micros| Duration::from_micros(micros) / 3);
        Some(Self { socket, address, interval: interval.max(Duration::from_millis(10)) })
    }

    async fn run(self, health: Health, shutdown: Shutdown) {
        self.send("READY=1");
        let mut ticks = tokio::time::interval(self.interval);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.requested(), if !is_stopping => {
                    is_stopping = true;
                    self.send("STOPPING=1");
                }
            }
            match health.liveness() {
                Ok(()) => self.send(&format!("WATCHDOG=1\n{}", state(&health))),
                // Without a sign of life, systemd ends and restarts the service.
                Err(reason) => self.send(&format!("STATUS={reason}")),
            }
        }
    }

    fn send(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            debug!(%error, "cannot notify the supervisor");
        }
    }
}

#[cfg(target_os = "linux")]
fn address(path: &str) -> std::io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(path: &str) -> std::io::Result<SocketAddr> {
    SocketAddr::from_pathname(path)
}

/// The line of `systemctl status`.
fn state(health: &Health) -> String {
    let text = health.readiness().map_or_else(|reason| reason.replace('\n', " "), |()| "at work".to_owned());
    format!("STATUS={text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn signs_of_life_are_sent_while_the_work_moves_and_end_when_it_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let variables = |name: &str| match name {
            "NOTIFY_SOCKET" => path.to_str().map(str::to_owned),
            "WATCHDOG_USEC" => Some("60000".to_owned()),
            _ => None,
        };
        let supervisor = Supervisor::from_variables(variables, 7).unwrap();
        assert_eq!(supervisor.interval, Duration::from_millis(20));
        let health = Health::default();
        health.set_ready();
        let running = tokio::spawn(supervisor.run(health.clone(), Shutdown::new()));
        assert_eq!(received(&socket), "READY=1");
        assert_eq!(received(&socket), "WATCHDOG=1\nSTATUS=at work");
        health.report(None, Some("the poll loop hangs".into()), Duration::from_secs(60));
        let hangs = (0..10).map(|_| received(&socket)).find(|text| !text.starts_with("WATCHDOG"));
        assert_eq!(hangs.as_deref(), Some("STATUS=the poll loop hangs"));
        assert_eq!(received(&socket), "STATUS=the poll loop hangs");
        running.abort();
    }

    #[test]
    fn a_process_that_systemd_has_not_started_reports_nothing() {
        assert!(Supervisor::from_variables(|_| None, 7).is_none());
        // A watchdog that is meant for the parent.
        let inherited = |name: &str| match name {
            "NOTIFY_SOCKET" => Some("@iotctl-test".to_owned()),
            "WATCHDOG_PID" => Some("8".to_owned()),
            _ => Some("60000".to_owned()),
        };
        assert_eq!(Supervisor::from_variables(inherited, 7).unwrap().interval, REPORT_INTERVAL);
    }
}
