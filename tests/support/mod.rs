//! What every suite on real servers uses: the program under test, the shared servers, and for each test a lab with its
//! own keyspace, topic and group.
//!
//! - [`program`]: `iotctl` with settings: run it, expect success or failure, let it run beside the test.
//! - [`servers`]: the Cassandra and the Kafka that the integration tests share.
//! - [`witness`]: the tables by another driver.
//! - [`mosquitto`]: an MQTT broker of a test's own.
//! - [`lab`]: a keyspace and a topic on those servers, readings in, rows out.
#![allow(dead_code, unused_imports, unused_macros, reason = "no suite uses all of it")]

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

mod lab;
mod mosquitto;
mod program;
mod servers;
mod witness;

pub use lab::Lab;
pub use mosquitto::Mosquitto;
pub use program::{Finished, Program, Running, Words, through, with_settings_of};
pub use servers::{CASSANDRA, KAFKA, NOBODY, Servers, WITHOUT_FLUSHES};
pub use witness::Witness;

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

/// A machine that is loaded this much is no reason for a test to fail.
const LOAD: u32 = 6;

/// Waits until `condition` holds, or fails with what it waited for. `deadline` is meant for a machine without other work.
pub fn eventually(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(started.elapsed() < deadline * LOAD, "{what}: not within {:?}", deadline * LOAD);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// A port of 127.0.0.1 that nothing listens on, no test of this run was given before, and no client is given by the
/// system: those of port 0 are, between this test and its program.
pub fn free_port() -> anyhow::Result<u16> {
    const PORTS: std::ops::Range<u32> = 21_000..31_000;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Several checkouts may test at once.
    let start = std::process::id().wrapping_mul(100);
    for _ in PORTS {
        let next = start.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + next % (PORTS.end - PORTS.start))?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}

/// Fails unless `text` contains each of `parts`.
pub fn contains(text: &str, parts: &[&str]) -> anyhow::Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    Ok(())
}

/// The metrics that a command serves.
pub fn scrape(address: &str) -> anyhow::Result<String> {
    get(address, "/metrics")
}

/// The whole answer to a GET, with its status line.
pub fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a metric without labels; `None` if it has no sample.
pub fn sample(address: &str, name: &str) -> Option<f64> {
    let text = get(address, "/metrics").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A line on stderr: what a suite measured, or why it cannot begin.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The wire format's four required fields and whatever else `rest` holds (with a leading comma).
pub fn message(location: &str, sensor: u128, recorded_at: i64, rest: &str) -> (String, Vec<u8>) {
    let id = uuid::Uuid::from_u128(sensor);
    // A reading without any value is not stored.
    let rest = if rest.is_empty() { r#","mode":"eco""# } else { rest };
    let json = format!(
        r#"{{"location":"{location}","device_type":"thermostat","iot_sensor_id":"{id}","recorded_timestamp":{recorded_at}{rest}}}"#
    );
    (id.to_string(), json.into_bytes())
}
