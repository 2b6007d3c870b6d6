//! `GET /api/states`: a sensor's states and motion over time, as stretches of one value.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Sensor, json, parameters, range, sensor, within_deadline};
use crate::store::cells::Cells;
use crate::time::{display, now};

/// States in an answer, and stretches of each: more than a chart has room for.
const MAX_STATES: usize = 12;
const MAX_SPANS: usize = 2_000;
const MOTION: &str = "motion";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    sensor: String,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    iot_sensor_id: Uuid,
    from: String,
    to: String,
    /// There are more states, or more changes of one, than are listed.
    truncated: bool,
    states: Vec<StateBody<'a>>,
}

#[derive(Serialize)]
struct StateBody<'a> {
    name: &'a str,
    spans: Vec<SpanBody<'a>>,
}

#[derive(Serialize)]
struct SpanBody<'a> {
    from: String,
    to: String,
    value: &'a str,
}

impl<'a> From<&'a Span> for SpanBody<'a> {
    fn from(span: &'a Span) -> Self {
        Self { from: display(span.from), to: display(span.to), value: &span.value }
    }
}

/// A stretch of readings with one value, in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    from: i64,
    to: i64,
    value: Arc<str>,
}

#[derive(Default)]
struct States {
    spans: BTreeMap<Arc<str>, Vec<Span>>,
    is_truncated: bool,
}

impl States {
    /// Readings come in order of time. A value holds until the next reading that has one.
    fn add(&mut self, name: &Arc<str>, at: i64, value: &Arc<str>) {
        if !self.spans.contains_key(name) {
            if self.spans.len() >= MAX_STATES {
                self.is_truncated = true;
                return;
            }
            self.spans.insert(name.clone(), Vec::new());
        }
        let Some(spans) = self.spans.get_mut(name) else { return };
        if let Some(last) = spans.last_mut() {
            last.to = at;
            if last.value == *value {
                return;
            }
        }
        if spans.len() >= MAX_SPANS {
            self.is_truncated = true;
            return;
        }
        spans.push(Span { from: at, to: at, value: value.clone() });
    }
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let (range, end) = range(asked.from.as_deref(), asked.to.as_deref(), asked.last.as_deref(), now())?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let Sensor { id, groups, .. } = sensor(&session, &asked.sensor).await?;
        let question =
            Question { groups, sensor: Some(id), range, filter: None, chosen: None, order: Some(Order::Asc) };
        let mut scan = Scan::of_cells(&session, question, Cells::STATES).await?;
        let mut states = States::default();
        let (motion, yes, no): (Arc<str>, Arc<str>, Arc<str>) = (MOTION.into(), "yes".into(), "no".into());
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                if let Some(moves) = reading.motion_detected {
                    states.add(&motion, reading.recorded_at, if moves { &yes } else { &no });
                }
                for (name, value) in &reading.states {
                    states.add(name, reading.recorded_at, value);
                }
            }
        }
        let body = states
            .spans
            .iter()
            .map(|(name, spans)| StateBody { name, spans: spans.iter().map(SpanBody::from).collect() });
        json(&Body {
            iot_sensor_id: id,
            from: display(range.from),
            to: display(end),
            truncated: states.is_truncated,
            states: body.collect(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_stretch_and_a_flickering_state_is_cut_off() {
        let mut states = States::default();
        let (mode, on, off): (Arc<str>, Arc<str>, Arc<str>) = ("mode".into(), "on".into(), "off".into());
        for (at, value) in [(1, &on), (2, &on), (5, &off), (9, &off)] {
            states.add(&mode, at, value);
        }
        let span = |from, to, value: &Arc<str>| Span { from, to, value: value.clone() };
        assert_eq!(states.spans[&mode], [span(1, 5, &on), span(5, 9, &off)]);
        for at in 0..2 * MAX_SPANS as i64 {
            states.add(&mode, 10 + at, if at % 2 == 0 { &on } else { &off });
        }
        assert!(states.is_truncated && states.spans[&mode].len() == MAX_SPANS);
    }
}
