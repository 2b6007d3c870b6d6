//! Prometheus' HTTP API, and a Prometheus of the tests' own that looks more often and waits less.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::support::eventually;

/// The body of a GET that is answered with 200.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let (status, body) = ask(address, path)?;
    ensure!(status == 200, "{address}{path}: {status} {body}");
    Ok(body)
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A Prometheus, wherever it came from.
#[derive(Debug, Clone, Copy)]
pub struct Api(pub SocketAddr);

impl Api {
    fn data(self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = ask(self.0, path)?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))?;
        ensure!(status == 200 && answer["status"] == "success", "{}", answer["error"]);
        Ok(answer["data"].clone())
    }

    /// The samples of an expression now; those that are no number (a quantile of nothing) do not count.
    pub fn query(self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let data = self.data(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let samples = data["result"].as_array().context("no result")?.clone();
        Ok(samples.into_iter().filter(|sample| sample["value"][1] != "NaN").collect())
    }

    /// The labels of the alerts that fire.
    pub fn firing(self) -> anyhow::Result<Vec<Value>> {
        let data = self.data("/api/v1/alerts")?;
        let alerts = data["alerts"].as_array().context("no alerts")?;
        Ok(alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["labels"].clone())
            .collect())
    }

    /// Expressions of all rules that are loaded, with their names and last error.
    pub fn rules(self) -> anyhow::Result<Vec<Value>> {
        let data = self.data("/api/v1/rules")?;
        let groups = data["groups"].as_array().context("no groups")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// `job at address: health`, of each target.
    pub fn targets(self) -> anyhow::Result<Vec<(String, String, String)>> {
        let data = self.data("/api/v1/targets?state=active")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(data["activeTargets"]
            .as_array()
            .context("no targets")?
            .iter()
            .map(|target| {
                (text(&target["labels"]["job"]), text(&target["labels"]["instance"]), text(&target["health"]))
            })
            .collect())
    }
}

/// The tests' own.
pub struct Prometheus {
    child: Child,
}

impl Prometheus {
    /// Runs on the committed configuration and rules and the targets in `folder`, with times that a test can wait for:
    /// scrapes each 2 s, rates of 20 s where two minutes stand, alerts after 4 s, a lag that is old after 5 s.
    pub fn start(folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring/prometheus");
        let read = |name: &str| std::fs::read_to_string(source.join(name));
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text);
        write("prometheus.yml", read("prometheus.yml")?.replace("_interval: 15s", "_interval: 2s"))?;
        write("recording.rules.yml", read("recording.rules.yml")?.replace("[2m]", "[20s]"))?;
        let alerts = read("alerts.rules.yml")?;
        let alerts: Vec<_> = alerts
            .lines()
            .map(|line| match line.trim_start().starts_with("for: ") {
                true => "        for: 4s".to_owned(),
                false => line.replace("lag_seconds:max > 60", "lag_seconds:max > 5"),
            })
            .collect();
        write("alerts.rules.yml", alerts.join("\n"))?;
        let log = std::fs::File::create(folder.join("prometheus.log"))?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start Prometheus")?;
        let prometheus = Self { child };
        eventually("Prometheus is ready", Duration::from_secs(30), || Ok(get(address, "/-/ready").is_ok()))?;
        Ok(prometheus)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
