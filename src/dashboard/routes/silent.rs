//! `GET /api/silent`: the sensors whose newest reading is old, the longest silent first.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::silence;
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, parameters, selection, within, within_deadline};
use crate::store::sensors::SensorNames;
use crate::time::{self, display, now};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    longer_than: Option<String>,
    top: Option<usize>,
    location: Option<String>,
    device_type: Option<String>,
}

#[derive(Serialize)]
struct Body {
    at: String,
    /// Number of sensors that were looked at.
    sensors: u64,
    /// Number of silent sensors; the list may be shorter.
    silent: usize,
    list: Vec<SilentSensor>,
}

#[derive(Serialize)]
struct SilentSensor {
    location: String,
    device_type: String,
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    recorded_timestamp: String,
    age_seconds: u64,
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let top = within("top", asked.top.unwrap_or(50), 1, 500)?;
    let longest = match &asked.longer_than {
        Some(text) => time::length(text).map_err(|error| Problem::bad_request(error.to_string()))?,
        None => i64::try_from(app.silent_after().as_millis()).unwrap_or(i64::MAX),
    };
    let selection = selection(asked.location.as_deref(), asked.device_type.as_deref())?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let now = now();
        let groups = selection.resolve(&session).await?;
        let found = silence::find(&session, &groups, now.saturating_sub(longest), None).await?;
        let mut names = SensorNames::default();
        let shown = found.silent.iter().take(top).map(|silent| (&silent.group, silent.sensor));
        names.learn(&session, shown).await?;
        let list = found.silent.iter().take(top).map(|silent| SilentSensor {
            location: silent.group.location.clone(),
            device_type: silent.group.device_type.clone(),
            iot_sensor_id: silent.sensor,
            sensor_name: names.get(silent.sensor).map(str::to_owned),
            recorded_timestamp: display(silent.last_at),
            age_seconds: u64::try_from(now.saturating_sub(silent.last_at) / 1000).unwrap_or(0),
        });
        let list = list.collect();
        json(&Body { at: display(now), sensors: found.sensors, silent: found.silent.len(), list })
    })
    .await
}
