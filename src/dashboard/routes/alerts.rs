//! `GET /api/alerts`: what fires now, and the latest alerts, as `iotctl alerts` reads them.
//! `POST /api/alerts/{id}/acknowledgement`: says that somebody has seen one of them, as `iotctl alerts ack` does.

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alerting::{Acknowledgement, Alert};
use crate::dashboard::alerts::{Firing, Look};
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{body, json, parameters, within};
use crate::http::Caller;
use crate::http::login::Role;
use crate::time::{display, now};

/// Firing alerts, and the latest ones, in the event; a request may ask for fewer.
pub(in crate::dashboard) const MAX_LISTED: usize = 500;
/// Of a comment, in bytes.
const MAX_COMMENT: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    sensor: Option<Uuid>,
    top: Option<usize>,
}

/// The answer, and the event `alerts`.
#[derive(Serialize)]
pub(in crate::dashboard) struct AlertsBody<'a> {
    at: String,
    /// Number of all that fire.
    firing_count: usize,
    /// The latest to begin, at most `top`.
    firing: Vec<FiringBody<'a>>,
    /// The latest first, resolved ones too.
    alerts: Vec<&'a Alert>,
}

#[derive(Serialize)]
struct FiringBody<'a> {
    #[serde(flatten)]
    alert: &'a Alert,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Seen<'a>>,
}

/// Who has seen it.
#[derive(Serialize)]
struct Seen<'a> {
    by: &'a str,
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

impl<'a> From<&'a Acknowledgement> for Seen<'a> {
    fn from(acknowledgement: &'a Acknowledgement) -> Self {
        let Acknowledgement { by, comment, acknowledged_timestamp: at, .. } = acknowledgement;
        Self { by, at: *at, comment: comment.as_deref() }
    }
}

impl<'a> AlertsBody<'a> {
    pub(in crate::dashboard) fn new(look: &'a Look, sensor: Option<Uuid>, top: usize) -> Self {
        let is_meant = |alert: &Alert| sensor.is_none_or(|id| alert.iot_sensor_id == id);
        let firing: Vec<_> = look.firing.iter().filter(|firing| is_meant(&firing.alert)).collect();
        let body = |firing: &&'a Firing| FiringBody {
            alert: &firing.alert,
            acknowledged: firing.acknowledgement.as_ref().map(Seen::from),
        };
        Self {
            at: display(now()),
            firing_count: firing.len(),
            firing: firing[firing.len().saturating_sub(top)..].iter().map(body).collect(),
            alerts: look.recent.iter().filter(|alert| is_meant(alert)).take(top).collect(),
        }
    }
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let top = within("top", asked.top.unwrap_or(MAX_LISTED), 1, MAX_LISTED)?;
    let look = app.alerts().await?;
    json(&AlertsBody::new(&look, asked.sensor, top))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remark {
    comment: Option<String>,
}

pub(super) async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let by = operator(&request)?;
    let id: Uuid = id.parse().map_err(|_| Problem::bad_request("the id is not a UUID (see /api/alerts)"))?;
    let Remark { comment } = remark(request).await?;
    let look = app.alerts().await?;
    let Some(Firing { alert, .. }) = look.firing.iter().find(|firing| firing.alert.id == id) else {
        let text = "no alert with this id fires (it may have ended; see /api/alerts)";
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    };
    let acknowledgement = Acknowledgement::of(alert, by, comment);
    app.acknowledge(&acknowledgement).await?;
    json(&Seen::from(&acknowledgement))
}

/// The name of a caller who may acknowledge.
fn operator(request: &Request) -> Result<String, Problem> {
    let forbidden = |text| Err(Problem::new(StatusCode::FORBIDDEN, text));
    match request.extensions().get::<Caller>() {
        None => forbidden("acknowledging needs a login (set http.tokens_file, as docs/security.md shows)"),
        Some(caller) if caller.identity.role < Role::Operator => {
            forbidden("a viewer may not acknowledge (ask for a token with --role operator)")
        }
        Some(caller) => Ok(caller.identity.name.clone()),
    }
}

/// The body, which may be empty.
async fn remark(request: Request) -> Result<Remark, Problem> {
    let bytes = body(request).await?;
    if bytes.is_empty() {
        return Ok(Remark::default());
    }
    let remark: Remark = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!("{error} (send JSON such as {{\"comment\":\"on my way\"}})"))
    })?;
    let comment = remark.comment.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if comment.as_ref().is_some_and(|text| text.len() > MAX_COMMENT) {
        return Err(Problem::bad_request(format!("comment is longer than {MAX_COMMENT} bytes (shorten it)")));
    }
    Ok(Remark { comment })
}
