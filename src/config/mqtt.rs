//! `[mqtt]`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::check::{Checked, ensure};
use super::section::{days, hours, seconds, section, size, time, whole};
use super::{Secret, validate};

section! {
    /// The bridge from an MQTT broker to Kafka.
    "mqtt" => MqttConfig {
        /// Address of the MQTT broker: mqtt://HOST:PORT, or mqtts:// with TLS. Default ports 1883 and 8883. The broker
        /// must speak MQTT 5.
        broker: String = "mqtt://127.0.0.1:1883".into();
        /// Topic filters to subscribe to, such as zigbee2mqtt/#, or $share/GROUP/FILTER to share the messages among
        /// several bridges.
        topics: Vec<String>;
        /// Name of the session that the broker keeps while the bridge is away. Two bridges must not have the same one.
        /// Empty: iotctl- with the host's name and the Kafka topic.
        client_id: Option<String>;
        /// User name.
        username: Option<String>;
        /// Password. Better given as a variable or in password_file.
        password: Option<Secret>;
        /// File whose first line is the password. Use it instead of password.
        password_file: Option<PathBuf>;
        /// PEM file of the trusted certificate authorities. Empty: those of the system.
        ca_file: Option<PathBuf>;
        /// PEM file of the client certificate. Needs key_file.
        cert_file: Option<PathBuf>;
        /// PEM file of the client key. Needs cert_file.
        key_file: Option<PathBuf>;
        /// Interval of pings. The connection counts as lost when nothing is heard for one and a half of it.
        keep_alive: Duration = seconds(30), time(seconds(1), hours(18));
        /// How long the broker keeps the session and its messages while the bridge is away, in whole seconds. The broker
        /// may have a limit of its own.
        session_expiry: Duration = days(7), time(seconds(1), days(3650));
        /// Messages that may wait for Kafka's acknowledgement. The broker sends no more (QoS 1) until some are
        /// acknowledged.
        max_in_flight: u16 = 1000, whole(1, 65_535);
        /// Bytes of messages that may wait for Kafka's acknowledgement.
        max_in_flight_bytes: ByteSize = ByteSize::mib(64), size(ByteSize::mib(1), ByteSize::gib(64));
        /// Size of the largest packet that is taken. The broker discards larger ones, so keep it above what devices send.
        max_packet_bytes: ByteSize = ByteSize::mib(16), size(ByteSize::kib(1), ByteSize::mib(256));
    }
}

/// Where the MQTT broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttAddress {
    pub host: String,
    pub port: u16,
    pub uses_tls: bool,
}

impl std::fmt::Display for MqttAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.uses_tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(out, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(out, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl MqttConfig {
    /// The address of the broker, by its parts.
    ///
    /// # Errors
    /// It is not an address.
    pub fn address(&self) -> Result<MqttAddress, super::Violation> {
        let parsed = self.parse();
        ensure(parsed.is_some(), &["mqtt.broker"], || {
            format!(
                "{:?} is not the address of an MQTT broker (write it like mqtt://host:1883, or mqtts://host:8883 with TLS; \
                 user name and password have settings of their own)",
                self.broker
            )
        })?;
        Ok(parsed.unwrap_or_else(|| unreachable!("checked above")))
    }

    fn parse(&self) -> Option<MqttAddress> {
        let (scheme, rest) = self.broker.split_once("://")?;
        let (uses_tls, default_port) = match scheme {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let port = if port.is_empty() { default_port } else { port.parse().ok().filter(|port| *port > 0)? };
        let is_host = |char: char| char.is_ascii_alphanumeric() || "-._:".contains(char);
        let is_plain = !host.is_empty() && host.chars().all(is_host);
        let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        (is_plain && host.contains(':') == is_ipv6).then(|| MqttAddress {
            host: host.to_owned(),
            port,
            uses_tls,
        })
    }

    /// Checks the section as a whole, also after its password file was read.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Checked {
        let address = self.address()?;
        self.topics.iter().try_for_each(|topic| {
            ensure(is_filter(topic), &["mqtt.topics"], || {
                format!(
                    "{topic:?} is not a topic filter of MQTT (# may only be the last level, + only a whole level, and \
                     shared subscriptions are written $share/GROUP/FILTER)"
                )
            })
        })?;
        for (key, is_given) in [
            ("mqtt.ca_file", self.ca_file.is_some()),
            ("mqtt.cert_file", self.cert_file.is_some()),
            ("mqtt.key_file", self.key_file.is_some()),
        ] {
            ensure(address.uses_tls || !is_given, &[key, "mqtt.broker"], || {
                "this has no effect without TLS (write mqtts:// in mqtt.broker, or remove it)".into()
            })?;
        }
        validate::pair(
            "mqtt.cert_file",
            self.cert_file.as_deref(),
            "mqtt.key_file",
            self.key_file.as_deref(),
        )?;
        let has_password = self.password.is_some() || self.password_file.is_some();
        ensure(!has_password || self.username.is_some(), &["mqtt.username"], || {
            "a password without a user name (set mqtt.username)".into()
        })?;
        validate::login("mqtt.username", self.username.as_deref(), "mqtt.password", self.password.as_ref())?;
        ensure(self.session_expiry.subsec_nanos() == 0, &["mqtt.session_expiry"], || {
            "MQTT counts it in whole seconds (round it)".into()
        })?;
        ensure(self.max_packet_bytes <= self.max_in_flight_bytes, &["mqtt.max_packet_bytes"], || {
            "a single packet would exceed the bytes that may be in flight (raise mqtt.max_in_flight_bytes)"
                .into()
        })?;
        let id = self.client_id.as_deref().unwrap_or("id");
        ensure(
            (1..=1024).contains(&id.len()) && !id.chars().any(char::is_control),
            &["mqtt.client_id"],
            || "it must have 1 to 1024 bytes without control characters".into(),
        )
    }
}

/// A filter with or without `$share/GROUP/` in front.
fn is_filter(filter: &str) -> bool {
    let inner = match filter.strip_prefix("$share/") {
        Some(rest) => match rest.split_once('/') {
            Some((group, inner)) if !group.is_empty() && !group.contains(['#', '+']) => inner,
            _ => return false,
        },
        None => filter,
    };
    let levels: Vec<&str> = inner.split('/').collect();
    let is_level = |(index, level): (usize, &&str)| match *level {
        "#" => index + 1 == levels.len(),
        "+" => true,
        level => !level.contains(['#', '+']),
    };
    !inner.is_empty()
        && filter.len() <= usize::from(u16::MAX)
        && !filter.contains(char::is_control)
        && levels.iter().enumerate().all(is_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(broker: &str) -> Option<(String, u16, bool)> {
        let config = MqttConfig { broker: broker.into(), ..Default::default() };
        config.address().ok().map(|found| (found.host, found.port, found.uses_tls))
    }

    #[test]
    fn a_broker_is_an_address_with_the_ports_of_mqtt() {
        assert_eq!(address("mqtt://127.0.0.1"), Some(("127.0.0.1".into(), 1883, false)));
        assert_eq!(address("mqtts://broker.example:8884/"), Some(("broker.example".into(), 8884, true)));
        assert_eq!(address("mqtts://[::1]"), Some(("::1".into(), 8883, true)));
        for bad in [
            "127.0.0.1:1883",
            "http://a",
            "mqtt://",
            "mqtt://a:0",
            "mqtt://user:pw@a",
            "mqtt://::1",
            "mqtt://a/b",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn filters_are_those_of_mqtt() {
        for good in ["#", "a/+/b", "/a", "$share/g/zigbee2mqtt/#", "$SYS/broker/#", "a//b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a/#/b", "a#", "a+/b", "$share/g", "$share//a", "$share/g/", "a\u{0}"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let tls = MqttConfig { ca_file: Some("ca.pem".into()), ..Default::default() };
        assert!(tls.check().unwrap_err().to_string().contains("mqtts://"));
        let password = MqttConfig { password: Some(Secret::new("x")), ..Default::default() };
        assert!(password.check().unwrap_err().to_string().contains("mqtt.username"));
        assert_eq!(MqttConfig::default().check(), Ok(()));
    }
}
