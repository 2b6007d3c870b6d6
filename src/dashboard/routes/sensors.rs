//! `GET /api/sensors`: the newest readings of a location, from the snapshot that all requests share.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::dashboard::app::App;
use crate::dashboard::fleet::{MAX_LISTED, ReadingBody};
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, parameters, selection, within};
use crate::time::display;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    location: String,
    device_type: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Body<'a> {
    at: String,
    sensors: u64,
    truncated: bool,
    readings: Vec<ReadingBody<'a>>,
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let limit = within("limit", asked.limit.unwrap_or(MAX_LISTED), 1, MAX_LISTED)?;
    let selection = selection(Some(&asked.location), asked.device_type.as_deref())?;
    let snapshot = app.fleet().await?;
    let matching = snapshot.groups.iter().filter(|group| selection.matches(&group.group));
    let sensors = matching.clone().map(|group| group.sensors).sum();
    if matching.clone().next().is_none() {
        let text = format!("no readings for {} (see /api/fleet)", selection.describe());
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    }
    let readings: Vec<_> = matching
        .flat_map(|group| &group.readings)
        .take(limit)
        .map(|reading| ReadingBody::new(reading, &snapshot.names))
        .collect();
    let truncated = (readings.len() as u64) < sensors;
    json(&Body { at: display(snapshot.at), sensors, truncated, readings })
}
