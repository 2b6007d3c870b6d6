//! What routes read from a request, within which bounds, and how they answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::problem::Problem;
use crate::analytics::Column;
use crate::analytics::groups::{Selection, sensor_called};
use crate::analytics::units::SensorUnits;
use crate::cassandra::Session;
use crate::output::text;
use crate::reading::{Group, Metric};
use crate::store::sensors;
use crate::time::{self, TimeRange, Zone, display};

/// How long a request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Metrics of one question.
pub(super) const MAX_METRICS: usize = 10;
/// Of a request's body, in bytes.
const MAX_BODY: usize = 4 * 1024;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_LAST: &str = "24h";
/// In milliseconds.
const MAX_RANGE: i64 = 3_660 * time::DAY;
/// In bytes.
const MAX_NAME: usize = 256;

/// The result of `work`, or a problem when it takes longer than [`DEADLINE`].
pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| {
        let text = format!("no answer within {DEADLINE:?} (ask for a shorter range of time or one location)");
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, text))
    })
}

/// The body of a request, of at most [`MAX_BODY`] bytes.
pub(super) async fn body(request: Request) -> Result<Bytes, Problem> {
    body_within(request, BODY_TIMEOUT).await
}

async fn body_within(request: Request, limit: Duration) -> Result<Bytes, Problem> {
    match timeout(limit, to_bytes(request.into_body(), MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body has not come (send it at once)")),
    }
}

/// The query string. An unknown parameter is refused.
pub(super) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(error) => Err(Problem::bad_request(format!("{} (see /api/openapi.json)", error.body_text()))),
    }
}

/// The query string of a request that may have a parameter several times.
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    /// # Errors
    /// A parameter is not one of those that are `known`.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = parameters(uri)?;
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            let text = format!(
                "unknown field `{}`: expected one of {} (see /api/openapi.json)",
                text::visible(name),
                known.join(", ")
            );
            return Err(Problem::bad_request(text));
        }
        Ok(Self(pairs))
    }

    /// Each value of a parameter.
    pub(super) fn all<'a>(&'a self, parameter: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == parameter).map(|(_, value)| value.as_str())
    }

    /// Each part of a parameter that may be given several times. A value with commas is a list if each of its parts
    /// `is_part`, else one part: names may have commas.
    pub(super) fn list(&self, parameter: &str, is_part: impl Fn(&str) -> bool) -> Vec<&str> {
        let mut parts = Vec::new();
        for (_, value) in self.0.iter().filter(|(name, _)| name == parameter) {
            let split: Vec<_> = value.split(',').map(str::trim).collect();
            match split.iter().all(|part| is_part(part)) {
                true => parts.extend(split),
                false => parts.push(value.as_str()),
            }
        }
        parts
    }

    /// The metrics of the parameter `metric`.
    pub(super) fn metrics(&self) -> Result<Vec<Metric>, Problem> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        let metrics = self.list("metric", is_plain).into_iter().map(metric).collect::<Result<Vec<_>, _>>()?;
        within("the number of metrics", metrics.len(), 1, MAX_METRICS)?;
        Ok(metrics)
    }

    /// # Errors
    /// It is given twice.
    pub(super) fn one<'a>(&'a self, parameter: &'a str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.all(parameter);
        match (values.next(), values.next()) {
            (found, None) => Ok(found),
            _ => Err(Problem::bad_request(format!("{parameter} is given twice (leave one out)"))),
        }
    }
}

/// An answer.
pub(super) fn json<T: Serialize>(body: &T) -> Result<Response, Problem> {
    let text = serde_json::to_string(body).map_err(|error| Problem::internal(error.to_string()))?;
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((headers, text).into_response())
}

/// A text that may be a name.
pub(super) fn name(parameter: &str, text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        let text =
            format!("{parameter} is not a name (give 1 to {MAX_NAME} bytes without control characters)");
        return Err(Problem::bad_request(text));
    }
    Ok(text.to_owned())
}

/// The parameter `metric`.
pub(super) fn metric(text: &str) -> Result<Metric, Problem> {
    match Column::named(&name("metric", text)?) {
        Column::Metric(metric) => Ok(metric),
        other => {
            Err(Problem::bad_request(format!("{} is not numeric (see metrics of /api/fleet)", other.name())))
        }
    }
}

/// A sensor that was asked for.
pub(super) struct Sensor {
    pub id: Uuid,
    pub name: Option<String>,
    pub groups: Vec<Arc<Group>>,
    pub units: SensorUnits,
}

/// The sensor of the parameter `sensor`: an id, or a name that messages or people call it by.
pub(super) async fn sensor(session: &Session, text: &str) -> Result<Sensor, Problem> {
    let id = sensor_called(session, &name("sensor", text)?).await?;
    let groups = Selection::default().resolve_sensor(session, id).await?;
    let known = sensors::registered_as(session, id).await?;
    let name = sensors::shown_name(&known).map(str::to_owned);
    Ok(Sensor { id, name, groups, units: SensorUnits::of(&known) })
}

/// A number that must lie between `least` and `most`.
pub(super) fn within(name: &str, value: usize, least: usize, most: usize) -> Result<usize, Problem> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Problem::bad_request(format!("{name} is {value} (give {least} to {most})")))
    }
}

/// The range of the parameters `from`, `to` and `last`, and where it ends in an answer: an open range ends now. `now` in
/// milliseconds since the epoch.
pub(super) fn range(
    from: Option<&str>,
    to: Option<&str>,
    last: Option<&str>,
    now: i64,
) -> Result<(TimeRange, i64), Problem> {
    range_in(Zone::Utc, from, to, last, now)
}

/// As [`range`], with the times of a zone.
pub(super) fn range_in(
    zone: Zone,
    from: Option<&str>,
    to: Option<&str>,
    last: Option<&str>,
    now: i64,
) -> Result<(TimeRange, i64), Problem> {
    if last.is_some() && (from.is_some() || to.is_some()) {
        return Err(Problem::bad_request("last and from or to are both given (leave one out)"));
    }
    let default = (last.is_none() && from.is_none()).then_some(DEFAULT_LAST);
    // The day before `to` where that is given alone.
    let base = match to {
        Some(to) if from.is_none() => time::moment(to, zone, now),
        _ => Ok(now),
    };
    let range = base.and_then(|base| {
        let from = match default {
            Some(last) => Some(display(base.saturating_sub(time::length(last)?))),
            None => from.map(ToOwned::to_owned),
        };
        TimeRange::parse(from.as_deref(), to, last, zone, now)
    });
    let range = range.map_err(|error| Problem::bad_request(error.to_string()))?;
    let end = if range.to == i64::MAX { now.max(range.from.saturating_add(1)) } else { range.to };
    if end.saturating_sub(range.from) > MAX_RANGE {
        return Err(Problem::bad_request("the range is longer than 3660 days (ask for a shorter one)"));
    }
    Ok((range, end))
}

/// The parameters `location` and `device_type`.
pub(super) fn selection(location: Option<&str>, device_type: Option<&str>) -> Result<Selection, Problem> {
    Ok(Selection {
        location: location.map(|text| name("location", text)).transpose()?,
        device_type: device_type.map(|text| name("device_type", text)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_769_860_800_000;

    #[test]
    fn an_open_range_ends_now_and_without_a_range_it_is_a_day() {
        let (all, end) = range(None, None, None, NOW).unwrap();
        assert_eq!((all.from, all.to, end), (NOW - 86_400_000, i64::MAX, NOW));
        let (before, end) = range(None, Some("2026-01-02"), None, NOW).unwrap();
        assert_eq!(end - before.from, 86_400_000);
        let (last, _) = range(None, None, Some("1h"), NOW).unwrap();
        assert_eq!(last.from, NOW - 3_600_000);
    }

    #[test]
    fn a_range_that_is_empty_contradictory_or_too_long_is_refused_with_a_remedy() {
        for (from, to, last) in [
            (Some("1900-01-01"), None, None),
            (Some("now"), Some("-1h"), None),
            (Some("-1h"), None, Some("1h")),
            (None, None, Some("100000d")),
            (Some("soon"), None, None),
            (None, Some("soon"), None),
        ] {
            let problem = range(from, to, last, NOW).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{problem:?}");
            assert!(problem.remedy.is_some(), "{problem:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::new(axum::body::Body::from_stream(never));
        let refused = body_within(request, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
        let long = Request::new(axum::body::Body::from(vec![b' '; MAX_BODY + 1]));
        assert_eq!(body(long).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn names_and_numbers_out_of_bounds_are_refused() {
        assert!(
            metric("location").is_err() && metric("a\u{7}").is_err() && metric(&"x".repeat(300)).is_err()
        );
        assert!(within("columns", 0, 1, 2_000).is_err());
    }
}
