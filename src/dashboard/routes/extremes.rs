//! `GET /api/extremes`: each sensor's highest or lowest value, ranked.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::extremes::{self, Limits, Side};
use crate::analytics::sources::MaxResolution;
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, metric, parameters, range, selection, within, within_deadline};
use crate::store::sensors::SensorNames;
use crate::time::{display, now};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    metric: String,
    side: SideName,
    top: Option<usize>,
    location: Option<String>,
    device_type: Option<String>,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum SideName {
    Highest,
    Lowest,
}

#[derive(Serialize)]
struct Body<'a> {
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    from: String,
    to: String,
    /// Number of sensors that have a value in the range.
    sensors: usize,
    extremes: Vec<ExtremeBody>,
}

#[derive(Serialize)]
struct ExtremeBody {
    extreme: &'static str,
    rank: usize,
    value: f64,
    recorded_timestamp: String,
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    location: String,
    device_type: String,
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let metric = metric(&asked.metric)?;
    let top = within("top", asked.top.unwrap_or(10), 1, 100)?;
    let selection = selection(asked.location.as_deref(), asked.device_type.as_deref())?;
    let side = match asked.side {
        SideName::Highest => Side::Highest,
        SideName::Lowest => Side::Lowest,
    };
    let (range, end) = range(asked.from.as_deref(), asked.to.as_deref(), asked.last.as_deref(), now())?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let groups = selection.resolve(&session).await?;
        let found =
            extremes::find(&session, &groups, &metric, range, MaxResolution::Day, None, |_| {}).await?;
        let limits = Limits { top: Some(top), above: None, below: None };
        let ranked = extremes::rank(&session, &found, &metric, range, side, &limits).await?;
        let mut names = SensorNames::default();
        names.learn(&session, ranked.iter().map(|extreme| (&extreme.group, extreme.sensor))).await?;
        let extremes = ranked.into_iter().enumerate().map(|(index, extreme)| ExtremeBody {
            extreme: side.name(),
            rank: index + 1,
            value: extreme.value,
            recorded_timestamp: display(extreme.recorded_at),
            iot_sensor_id: extreme.sensor,
            sensor_name: names.get(extreme.sensor).map(str::to_owned),
            location: extreme.group.location.clone(),
            device_type: extreme.group.device_type.clone(),
        });
        json(&Body {
            metric: metric.name(),
            unit: metric.unit(),
            from: display(range.from),
            to: display(end),
            sensors: found.sensors(),
            extremes: extremes.collect(),
        })
    })
    .await
}
