//! `GET /api/status`: Kafka and Cassandra.

use axum::extract::State;
use axum::response::Response;

use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::json;

pub(super) async fn get(State(app): State<App>) -> Result<Response, Problem> {
    json(&*app.health().await)
}
