//! `GET /api/alerts`: what fires now, and the latest alerts, as `iotctl alerts` reads them.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alerting::Alert;
use crate::dashboard::alerts::Look;
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, parameters, within};
use crate::time::{display, now};

/// Firing alerts, and the latest ones, in the event; a request may ask for fewer.
pub(in crate::dashboard) const MAX_LISTED: usize = 500;

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
    firing: Vec<&'a Alert>,
    /// The latest first, resolved ones too.
    alerts: Vec<&'a Alert>,
}

impl<'a> AlertsBody<'a> {
    pub(in crate::dashboard) fn new(look: &'a Look, sensor: Option<Uuid>, top: usize) -> Self {
        let is_meant = |alert: &&Alert| sensor.is_none_or(|id| alert.iot_sensor_id == id);
        let firing: Vec<_> = look.firing.iter().filter(is_meant).collect();
        Self {
            at: display(now()),
            firing_count: firing.len(),
            firing: firing[firing.len().saturating_sub(top)..].to_vec(),
            alerts: look.recent.iter().filter(is_meant).take(top).collect(),
        }
    }
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let top = within("top", asked.top.unwrap_or(MAX_LISTED), 1, MAX_LISTED)?;
    let look = app.alerts().await?;
    json(&AlertsBody::new(&look, asked.sensor, top))
}
