//! Receivers that are told by mail.

use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::Failure;
use super::http::secret;
use crate::alerting::delivery::notification::Notification;
use crate::alerting::delivery::receivers::{Encryption, RawEmail};

/// Characters of a subject.
const MOST_SUBJECT: usize = 200;

/// By SMTP, one message for all addresses. Each has a connection of its own.
pub(in crate::alerting::delivery) struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    server: String,
}

/// Without the password.
impl std::fmt::Debug for Email {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "mail by {}", self.server)
    }
}

impl Email {
    pub(super) fn check(raw: &RawEmail, timeout: Duration) -> Result<Self, String> {
        let (host, port) = raw
            .server
            .rsplit_once(':')
            .and_then(|(host, port)| {
                Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
            })
            .filter(|(host, _): &(&str, u16)| !host.is_empty())
            .ok_or("email.server: write host:port, such as mail.example.org:587")?;
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|error| format!("email.{key}: {text:?}: {error}"))
        };
        if raw.to.is_empty() {
            return Err("email.to needs an address".to_owned());
        }
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .timeout(Some(timeout))
            .tls(tls(raw, host)?);
        builder = match (&raw.username, &raw.password_file) {
            (Some(_), Some(_)) if raw.encryption == Encryption::None => {
                return Err("email: a password is not sent without encryption (set encryption)".to_owned());
            }
            (Some(user), Some(file)) => {
                let password = secret("email.password_file", file)?;
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()))
            }
            (None, None) => builder,
            _ => return Err("email needs both username and password_file, or neither".to_owned()),
        };
        Ok(Self {
            transport: builder.build(),
            from: mailbox("from", &raw.from)?,
            to: raw.to.iter().map(|address| mailbox("to", address)).collect::<Result<_, _>>()?,
            server: raw.server.clone(),
        })
    }

    pub(super) async fn send(&self, notification: &Notification<'_>) -> Result<(), Failure> {
        let message = self.message(notification).map_err(|error| Failure::Refused(error.to_string()))?;
        self.transport.send(message).await.map(drop).map_err(|error| understood(&self.server, &error))
    }

    fn message(&self, notification: &Notification<'_>) -> Result<Message, lettre::error::Error> {
        let subject: String = notification.title().chars().take(MOST_SUBJECT).collect();
        let id = format!("<{}@iotctl>", notification.id());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            // The same for a notification that is sent again.
            .message_id(Some(id))
            .header(AutoSubmitted);
        for address in &self.to {
            builder = builder.to(address.clone());
        }
        // With its character set: without it, "°C" is read as two other characters.
        builder.singlepart(SinglePart::plain(notification.text()))
    }
}

fn tls(raw: &RawEmail, host: &str) -> Result<Tls, String> {
    if raw.encryption == Encryption::None {
        return match raw.ca_file {
            None => Ok(Tls::None),
            Some(_) => Err("email.ca_file has no effect without encryption (remove it)".to_owned()),
        };
    }
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = &raw.ca_file {
        let problem = |error: String| format!("email.ca_file: {}: {error}", file.display());
        let pem = std::fs::read(file).map_err(|error| problem(error.to_string()))?;
        let authority = Certificate::from_pem(&pem).map_err(|error| problem(error.to_string()))?;
        parameters = parameters.add_root_certificate(authority);
    }
    let parameters = parameters.build().map_err(|error| format!("email: {error}"))?;
    Ok(if raw.encryption == Encryption::Tls { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
}

/// A refused login is not the message's fault.
fn understood(server: &str, error: &lettre::transport::smtp::Error) -> Failure {
    const LOGIN: [u16; 3] = [530, 534, 535];
    let mut said = format!("{server}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match error.status().map(u16::from) {
        Some(code) if LOGIN.contains(&code) => Failure::Unavailable(said),
        _ if error.is_permanent() || error.is_client() => Failure::Refused(said),
        _ => Failure::Unavailable(said),
    }
}

/// RFC 3834: nobody's holiday note is an answer to an alert.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::{State, example};

    #[test]
    fn a_mail_says_its_character_set() {
        let raw = RawEmail {
            server: "mail.example.org:25".to_owned(),
            encryption: Encryption::None,
            username: None,
            password_file: None,
            ca_file: None,
            from: "iotctl@example.org".to_owned(),
            to: vec!["ops@example.org".to_owned()],
        };
        let email = Email::check(&raw, Duration::from_secs(1)).unwrap();
        let (alert, group) = (example("hot", 1, State::Firing, 1), Vec::new());
        let notification = Notification { receiver: "ops", group: &group, alerts: vec![&alert] };
        let mail = String::from_utf8(email.message(&notification).unwrap().formatted()).unwrap();
        assert!(mail.contains("\r\nMIME-Version: 1.0\r\n"), "{mail}");
        assert!(mail.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"), "{mail}");
        assert!(mail.contains("=C2=B0C"), "{mail}");
    }
}
