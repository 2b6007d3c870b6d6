//! `GET /api/sensors`: the newest readings of a location, or of the sensors whose name or id has a text as a part, from the
//! snapshot that all requests share.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::dashboard::app::App;
use crate::dashboard::fleet::{MAX_LISTED, ReadingBody};
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, name, parameters, selection, within};
use crate::time::display;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    location: Option<String>,
    find: Option<String>,
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
    if asked.location.is_none() && asked.find.is_none() {
        return Err(Problem::bad_request("neither location nor find is given (give one of them)"));
    }
    let selection = selection(asked.location.as_deref(), asked.device_type.as_deref())?;
    let find =
        asked.find.as_deref().map(|text| name("find", text)).transpose()?.map(|text| text.to_lowercase());
    let snapshot = app.fleet().await?;
    let matching = snapshot.groups.iter().filter(|group| selection.matches(&group.group));
    if find.is_none() && matching.clone().next().is_none() {
        let text = format!("no readings for {} (see /api/fleet)", selection.describe());
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    }
    if let Some(find) = find {
        let mut found: Vec<_> = matching
            .flat_map(|group| &group.readings)
            .filter_map(|reading| {
                let name = snapshot.names.get(reading.sensor).map(str::to_lowercase);
                let is_found = name.as_ref().is_some_and(|name| name.contains(&find))
                    || reading.sensor.as_hyphenated().to_string().contains(&find);
                is_found.then_some((name.is_none(), name, reading.sensor, reading))
            })
            .collect();
        // Those with a name first.
        found.sort_by(|left, right| (left.0, &left.1, left.2).cmp(&(right.0, &right.1, right.2)));
        let sensors = found.len() as u64;
        let readings: Vec<_> =
            found.iter().take(limit).map(|found| ReadingBody::new(found.3, &snapshot.names)).collect();
        let truncated = (readings.len() as u64) < sensors;
        return json(&Body { at: display(snapshot.at), sensors, truncated, readings });
    }
    let sensors = matching.clone().map(|group| group.sensors).sum();
    let readings: Vec<_> = matching
        .flat_map(|group| &group.readings)
        .take(limit)
        .map(|reading| ReadingBody::new(reading, &snapshot.names))
        .collect();
    let truncated = (readings.len() as u64) < sensors;
    json(&Body { at: display(snapshot.at), sensors, truncated, readings })
}
