//! The routes of the JSON API, one file each. Each request is bounded in time, in points or rows, and in how many run at
//! once; and it ends when its client disconnects.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::app::App;
use super::problem::Problem;

pub(super) mod alerts;
mod anomalies;
mod extremes;
mod fleet;
mod forecast;
mod sensor;
mod sensors;
mod series;
mod session;
mod silent;
mod sql;
mod states;
mod stats;
mod status;

/// The description of the API.
pub(super) const OPENAPI: &str = include_str!("../assets/openapi.json");

/// Every route. A test compares the list with the description.
pub(super) fn all() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/api/fleet", get(fleet::get)),
        ("/api/sensors", get(sensors::get)),
        ("/api/sensors/{sensor}", get(sensor::get)),
        ("/api/series", get(series::get)),
        ("/api/stats", get(stats::get)),
        ("/api/sql", get(sql::get)),
        ("/api/extremes", get(extremes::get)),
        ("/api/silent", get(silent::get)),
        ("/api/anomalies", get(anomalies::get)),
        ("/api/forecast", get(forecast::get)),
        ("/api/states", get(states::get)),
        ("/api/alerts", get(alerts::get)),
        ("/api/alerts/{id}/acknowledgement", post(alerts::acknowledge)),
        ("/api/session", get(session::get).post(session::post).delete(session::delete)),
        ("/api/status", get(status::get)),
        ("/api/events", get(events)),
        ("/api/openapi.json", get(openapi)),
    ]
}

async fn events(State(app): State<App>) -> Result<Response, Problem> {
    app.feed().listen(app.shutdown())
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
