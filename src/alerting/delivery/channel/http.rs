//! Receivers that are told over HTTP: any webhook, and Prometheus Alertmanager by its API v2.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use super::Failure;
use crate::alerting::alert::{Alert, State};
use crate::alerting::delivery::notification::Notification;
use crate::alerting::delivery::receivers::{RawAlertmanager, RawWebhook};
use crate::alerting::tables::length;
use crate::config::password_file;
use crate::encoding::hex;
use crate::http::client::Endpoint;
use crate::mapping::jq::Program;
use crate::tls;

/// Of an answer, in bytes; only its beginning is shown.
const MAX_BODY: usize = 64 << 10;
const MOST_SHOWN: usize = 300;
const DEFAULT_RESEND: Duration = Duration::from_secs(60);
/// Alertmanager takes an alert as resolved after this many intervals without it, as Prometheus asks it to.
const INTERVALS: u32 = 4;

/// `sha256=` and the HMAC of the body in hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("x-iotctl-signature");
/// The same for a notification that is sent again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const TLS: tls::Settings = tls::Settings {
    ca: "ca_file of the receiver",
    certificate: "ca_file of the receiver",
    key: "ca_file of the receiver",
    off: "the receiver's url to http://",
    name: "write that name in the receiver's url",
};

fn endpoint(url: &str, ca: Option<&Path>) -> Result<Endpoint, String> {
    let endpoint = Endpoint::parse(url, MAX_BODY).map_err(|problem| format!("url: {problem}"))?;
    if !Endpoint::is_tls(url) {
        return match ca {
            None => Ok(endpoint),
            Some(_) => Err("ca_file has no effect without https:// in url (remove it)".to_owned()),
        };
    }
    let config = match ca {
        Some(file) => tls::client_config(&TLS, file, None),
        None => tls::client_config_of_system(&TLS, None),
    };
    Ok(endpoint.with_tls(config.map_err(|error| error.to_string())?, &TLS))
}

pub(super) fn secret(key: &str, path: &Path) -> Result<crate::config::Secret, String> {
    password_file::read(path).map_err(|problem| format!("{key}: {}: {problem}", path.display()))
}

fn authorization(file: Option<&Path>, headers: &mut HeaderMap) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let mut value = HeaderValue::from_str(secret("authorization_file", file)?.expose())
        .map_err(|_| "authorization_file: not the value of a header".to_owned())?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

async fn post(
    endpoint: &Endpoint,
    path: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failure> {
    let mut request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::Refused(error.to_string()))?;
    request.headers_mut().extend(headers);
    endpoint.send(request).await.map_err(Failure::Unavailable)
}

/// What an answer means: the receiver refuses the message only where it says so of the message itself.
fn understood(status: StatusCode, body: &[u8]) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(MOST_SHOWN).collect();
    let said =
        if text.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {text}") };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(Failure::Unavailable(format!("{said} (check authorization_file)")))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(Failure::Unavailable(said))
        }
        status if status.is_client_error() => Err(Failure::Refused(said)),
        status if status.is_redirection() => {
            Err(Failure::Unavailable(format!("{said} (set url to where it redirects)")))
        }
        _ => Err(Failure::Unavailable(said)),
    }
}

/// A webhook.
#[derive(Debug)]
pub(in crate::alerting::delivery) struct Webhook {
    endpoint: Endpoint,
    /// Makes the body of a notification.
    body: Option<Program>,
    headers: HeaderMap,
    key: Option<hmac::Key>,
}

impl Webhook {
    pub(super) fn check(raw: &RawWebhook) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &raw.headers {
            let name = HeaderName::try_from(name).map_err(|_| format!("headers: {name:?} is not a name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("headers: {name}: not the value of a header"))?;
            headers.insert(name, value);
        }
        authorization(raw.authorization_file.as_deref(), &mut headers)?;
        let key = match &raw.secret_file {
            Some(file) => {
                let secret = secret("secret_file", file)?;
                Some(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
            }
            None => None,
        };
        let body = raw.body.as_deref().map(Program::parse).transpose();
        let body = body.map_err(|problem| format!("body: {problem}"))?;
        if let Some(body) = &body {
            // A program that cannot read a notification is found before the first alert.
            body.run(sample()).map_err(|problem| format!("body: {problem}"))?;
        }
        Ok(Self { endpoint: endpoint(&raw.url, raw.ca_file.as_deref())?, body, headers, key })
    }

    pub(super) async fn send(&self, notification: &Notification<'_>) -> Result<(), Failure> {
        let mut body = notification.json();
        if let Some(program) = &self.body {
            body = program.run(body).map_err(|problem| Failure::Refused(format!("body: {problem}")))?;
        }
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut headers = self.headers.clone();
        let id = HeaderValue::from_str(&notification.id().to_string());
        headers.extend(id.ok().map(|id| (IDEMPOTENCY_KEY, id)));
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&format!("sha256={}", hex(hmac::sign(key, &body).as_ref())));
            headers.extend(value.ok().map(|value| (SIGNATURE, value)));
        }
        let (status, body) = post(&self.endpoint, &self.endpoint.path, headers, body).await?;
        understood(status, &body)
    }
}

/// A notification to try a template with.
fn sample() -> Value {
    let at = "2026-11-01T12:00:00Z";
    json!({
        "version": 1, "id": "7ea86a5a-9b0c-5d55-8a30-5ac65ab6d9a2", "receiver": "sample", "status": "firing",
        "title": "firing: hot, th-1 of plant-1", "group": {"location": "plant-1", "rule": "hot"},
        "firing": 1, "resolved": 0,
        "alerts": [{
            "id": "9f0c71f5-32d4-5a1b-8a5e-60c1fb1a2d3e", "rule": "hot", "severity": "critical", "state": "firing",
            "location": "plant-1", "device_type": "thermostat",
            "iot_sensor_id": "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0", "sensor_name": "th-1", "metric": "temperature",
            "value": 31.5, "expected": 28.0, "recorded_timestamp": at, "since": at, "detected_timestamp": at,
            "message": "temperature 31.5 °C: above 28", "sequence": 1_793_534_400_000_u64,
            "labels": {"team": "cooling"}, "runbook": "https://wiki.example/hot",
        }],
    })
}

/// Prometheus Alertmanager.
#[derive(Debug)]
pub(in crate::alerting::delivery) struct Alertmanager {
    endpoint: Endpoint,
    path: String,
    headers: HeaderMap,
    pub(super) resend: Duration,
}

impl Alertmanager {
    pub(super) fn check(raw: &RawAlertmanager) -> Result<Self, String> {
        let resend = raw.resend.as_deref().map_or(Ok(DEFAULT_RESEND), |text| length("resend", text))?;
        if resend < Duration::from_secs(1) {
            return Err("resend must be at least 1s".to_owned());
        }
        let mut headers = HeaderMap::new();
        authorization(raw.authorization_file.as_deref(), &mut headers)?;
        let endpoint = endpoint(&raw.url, raw.ca_file.as_deref())?;
        let path = format!("{}/api/v2/alerts", endpoint.path.trim_end_matches('/'));
        Ok(Self { endpoint, path, headers, resend })
    }

    pub(super) async fn send(&self, notification: &Notification<'_>) -> Result<(), Failure> {
        let now = Utc::now();
        let alerts: Vec<_> = notification.alerts.iter().map(|alert| self.alert(alert, now)).collect();
        let body = serde_json::to_vec(&alerts).unwrap_or_default();
        let (status, body) = post(&self.endpoint, &self.path, self.headers.clone(), body).await?;
        understood(status, &body)
    }

    fn alert(&self, alert: &Alert, now: DateTime<Utc>) -> Value {
        let moment = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let ends = match alert.state {
            State::Firing => now + self.resend * INTERVALS,
            State::Resolved => alert.recorded_timestamp,
        };
        let mut labels = json!({
            "alertname": alert.rule,
            "severity": alert.severity.name(),
            "location": alert.location,
            "device_type": alert.device_type,
            "iot_sensor_id": alert.iot_sensor_id,
            "metric": alert.metric,
        });
        if let Some(name) = &alert.sensor_name {
            labels["sensor_name"] = name.as_str().into();
        }
        for (name, value) in &alert.labels {
            labels[name] = value.as_str().into();
        }
        let mut annotations =
            json!({"summary": alert.message, "value": alert.value.to_string(), "id": alert.id});
        if let Some(runbook) = &alert.runbook {
            annotations["runbook_url"] = runbook.as_str().into();
        }
        json!({
            "labels": labels,
            "annotations": annotations,
            "startsAt": moment(alert.since),
            "endsAt": moment(ends),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_message_itself_makes_a_dead_letter() {
        let answer = |status: u16| understood(StatusCode::from_u16(status).unwrap(), b"why");
        assert_eq!(answer(202), Ok(()));
        for status in [400, 404, 410, 413, 422] {
            let Err(Failure::Refused(reason)) = answer(status) else { panic!("{status} is not refused") };
            assert!(reason.ends_with(": why"), "{reason}");
        }
        for status in [301, 401, 408, 425, 429, 500, 502, 503] {
            assert!(matches!(answer(status), Err(Failure::Unavailable(_))), "{status}");
        }
    }
}
