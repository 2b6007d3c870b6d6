//! The file of receivers: TOML, checked on reading. Errors name the line and the receiver.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::channel::Channel;
use crate::alerting::alert::Alert;
use crate::alerting::rules::Severity;
use crate::alerting::tables::{Kind, TablesError, length};

const RECEIVERS: Kind = Kind { name: "receiver", most: 50, too_many: "", known_by: "metrics are kept by it" };
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const DEFAULT_PER_MINUTE: usize = 30;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The checked receivers of a file.
#[derive(Debug)]
pub struct Receivers(Vec<Receiver>);

/// Who is told of which alerts.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) name: String,
    /// Only alerts that are at least as serious.
    severity: Option<Severity>,
    /// Only alerts of these; all if empty.
    rules: HashSet<String>,
    locations: HashSet<String>,
    device_types: HashSet<String>,
    /// Only alerts that have all of these.
    labels: BTreeMap<String, String>,
    pub(super) group_by: Vec<Field>,
    /// How long a group collects alerts before it is sent.
    pub(super) group_wait: Duration,
    /// Notifications in a minute; 0 for no limit.
    pub(super) max_per_minute: usize,
    /// Of an attempt.
    pub(super) timeout: Duration,
    /// After this long an alert becomes a dead letter; never if `None`.
    pub(super) give_up_after: Option<Duration>,
    pub(super) channel: Channel,
}

/// What groups are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Field {
    Location,
    DeviceType,
    Rule,
    Severity,
    Metric,
    #[serde(rename = "iot_sensor_id")]
    Sensor,
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::DeviceType => "device_type",
            Self::Rule => "rule",
            Self::Severity => "severity",
            Self::Metric => "metric",
            Self::Sensor => "iot_sensor_id",
        }
    }

    pub(super) fn of(self, alert: &Alert) -> String {
        match self {
            Self::Location => alert.location.clone(),
            Self::DeviceType => alert.device_type.clone(),
            Self::Rule => alert.rule.clone(),
            Self::Severity => alert.severity.name().to_owned(),
            Self::Metric => alert.metric.clone(),
            Self::Sensor => alert.iot_sensor_id.to_string(),
        }
    }
}

/// The file before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReceivers {
    #[serde(default)]
    receiver: Vec<Spanned<RawReceiver>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReceiver {
    name: String,
    severity: Option<Severity>,
    #[serde(default)]
    rules: HashSet<String>,
    #[serde(default)]
    locations: HashSet<String>,
    #[serde(default)]
    device_types: HashSet<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    group_by: Option<Vec<Field>>,
    group_wait: Option<String>,
    max_per_minute: Option<usize>,
    timeout: Option<String>,
    give_up_after: Option<String>,
    alertmanager: Option<RawAlertmanager>,
    webhook: Option<RawWebhook>,
    email: Option<RawEmail>,
    command: Option<RawCommand>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAlertmanager {
    pub(super) url: String,
    pub(super) resend: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) authorization_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    pub(super) url: String,
    /// A jq program.
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) authorization_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEmail {
    /// host:port
    pub(super) server: String,
    #[serde(default)]
    pub(super) encryption: Encryption,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) from: String,
    pub(super) to: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encryption {
    #[default]
    Starttls,
    Tls,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCommand {
    /// The program and its arguments; no shell.
    pub(super) run: Vec<String>,
}

impl Receivers {
    /// Reads and checks the file of receivers at `path`.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn read(path: &Path) -> Result<Self, TablesError> {
        Self::parse(&RECEIVERS.read(path)?)
    }

    fn parse(text: &str) -> Result<Self, TablesError> {
        RECEIVERS.parse(text, |file: RawReceivers| file.receiver, |raw| &raw.name, Receiver::check).map(Self)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, separated by commas.
    pub fn names(&self) -> String {
        self.0.iter().map(|receiver| receiver.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn into_vec(self) -> Vec<Receiver> {
        self.0
    }
}

impl Receiver {
    fn check(raw: RawReceiver) -> Result<Self, String> {
        let timeout = raw.timeout.map_or(Ok(DEFAULT_TIMEOUT), |text| length("timeout", &text))?;
        if timeout.is_zero() {
            return Err("timeout must be greater than 0".to_owned());
        }
        let is_alertmanager = raw.alertmanager.is_some();
        let channel = match (raw.alertmanager, raw.webhook, raw.email, raw.command) {
            (Some(raw), None, None, None) => Channel::alertmanager(raw)?,
            (None, Some(raw), None, None) => Channel::webhook(raw)?,
            (None, None, Some(raw), None) => Channel::email(raw, timeout)?,
            (None, None, None, Some(raw)) => Channel::command(raw)?,
            _ => {
                return Err("exactly one of alertmanager, webhook, email and command is required".to_owned());
            }
        };
        if is_alertmanager && (raw.group_by.is_some() || raw.group_wait.is_some()) {
            return Err(
                "group_by and group_wait have no effect with alertmanager: it groups by itself (remove them)"
                    .to_owned(),
            );
        }
        let wait = if is_alertmanager { Duration::ZERO } else { DEFAULT_WAIT };
        Ok(Self {
            name: raw.name,
            severity: raw.severity,
            rules: raw.rules,
            locations: raw.locations,
            device_types: raw.device_types,
            labels: raw.labels,
            group_by: match is_alertmanager {
                true => Vec::new(),
                false => raw.group_by.unwrap_or_else(|| vec![Field::Location, Field::Rule]),
            },
            group_wait: raw.group_wait.map_or(Ok(wait), |text| length("group_wait", &text))?,
            max_per_minute: raw.max_per_minute.unwrap_or(match is_alertmanager {
                true => 0,
                false => DEFAULT_PER_MINUTE,
            }),
            timeout,
            give_up_after: raw.give_up_after.map(|text| length("give_up_after", &text)).transpose()?,
            channel,
        })
    }

    /// Whether it is told of this alert.
    pub(super) fn wants(&self, alert: &Alert) -> bool {
        let takes = |names: &HashSet<String>, name: &str| names.is_empty() || names.contains(name);
        self.severity.is_none_or(|least| alert.severity >= least)
            && takes(&self.rules, &alert.rule)
            && takes(&self.locations, &alert.location)
            && takes(&self.device_types, &alert.device_type)
            && self.labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::{State, example};

    fn refused(text: &str) -> String {
        Receivers::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_with_each_kind_of_receiver_is_read() {
        let receivers = Receivers::parse(
            r#"
            [[receiver]]
            name = "prometheus"
            alertmanager = { url = "http://127.0.0.1:9093", resend = "30s" }

            [[receiver]]
            name = "chat"
            severity = "critical"
            rules = ["hot"]
            labels = { team = "cooling" }
            group_by = ["location"]
            group_wait = "1s"
            webhook = { url = "http://127.0.0.1:1/x", body = '{text: .title}', headers = { X-Team = "a" } }

            [[receiver]]
            name = "mail"
            email = { server = "127.0.0.1:25", encryption = "none", from = "iotctl@example.org", to = ["ops@example.org"] }

            [[receiver]]
            name = "pager"
            command = { run = ["/bin/true", "--now"] }
            "#,
        )
        .unwrap();
        assert_eq!(receivers.names(), "prometheus, chat, mail, pager");
        let chat = &receivers.into_vec()[1];
        let mut alert = example("hot", 1, State::Firing, 1);
        assert!(!chat.wants(&alert));
        alert.severity = Severity::Critical;
        alert.labels.insert("team".to_owned(), "cooling".to_owned());
        assert!(chat.wants(&alert));
        alert.labels.clear();
        assert!(!chat.wants(&alert));
        alert.labels.insert("team".to_owned(), "cooling".to_owned());
        alert.rule = "cold".to_owned();
        assert!(!chat.wants(&alert));
    }

    #[test]
    fn an_error_names_the_line_and_the_receiver() {
        let receiver = |rest: &str| format!("# receivers\n[[receiver]]\nname = \"ops\"\n{rest}");
        for (rest, problem) in [
            ("", "line 2, receiver \"ops\": exactly one of alertmanager, webhook, email and command"),
            ("webhook = { url = \"host\" }", "url: \"host\" does not begin with http:// or https://"),
            ("webhook = { url = \"http://h\", body = \"{\" }", "body: not a jq program"),
            ("webhook = { url = \"http://h\", body = \".alerts.x\" }", "body: "),
            ("webhook = { url = \"http://h\", headers = { \"a b\" = \"c\" } }", "headers: "),
            (
                "webhook = { url = \"http://h\", secret_file = \"/nowhere\" }",
                "secret_file: /nowhere: it does not exist",
            ),
            ("webhook = { url = \"http://h\", ca_file = \"/x\" }", "ca_file has no effect without https://"),
            ("command = { run = [] }", "command.run needs a program"),
            ("email = { server = \"h\", from = \"a@b\", to = [\"a@b\"] }", "email.server: write host:port"),
            ("email = { server = \"h:25\", from = \"a\", to = [\"a@b\"] }", "email.from: "),
            ("email = { server = \"h:25\", from = \"a@b\", to = [] }", "email.to needs an address"),
            (
                "group_wait = \"1s\"\nalertmanager = { url = \"http://h\" }",
                "group_by and group_wait have no effect",
            ),
            ("group_by = [\"colour\"]", "line 4: unknown variant `colour`"),
            ("timeout = \"0s\"\ncommand = { run = [\"x\"] }", "timeout must be greater than 0"),
        ] {
            let refused = refused(&receiver(rest));
            assert!(refused.contains(problem), "{rest}: {refused}");
        }
        assert_eq!(refused(""), "the file has no [[receiver]]");
        let twice = receiver("command = { run = [\"x\"] }\n").repeat(2);
        assert!(refused(&twice).contains("another receiver has this name"));
    }
}
