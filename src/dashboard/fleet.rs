//! Each sensor's newest reading, read once for all open pages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use uuid::Uuid;

use crate::analytics::units::SensorUnits;
use crate::cassandra::{Error, Session};
use crate::reading::Metric;
use crate::reading::{Group, widen};
use crate::store::groups;
use crate::store::readings::{self, Names, StoredReading};
use crate::store::sensors::SensorNames;
use crate::time::display;

/// Groups that are read at once.
const IN_FLIGHT: usize = 8;
/// Sensors whose readings are held; the counts cover all sensors.
const MAX_HELD: usize = 50_000;
/// Sensors of one group whose readings are held; any other can be found by its id.
pub(super) const MAX_LISTED: usize = 5_000;
/// Names in other_metrics that are listed.
const MAX_NAMES: usize = 200;
/// Clocks differ a little: a reading that is ahead of ours by less, in milliseconds, is not from a clock that is ahead.
const AHEAD: i64 = 5_000;
/// Readings in one event. When more have changed, the page asks for those that it shows.
const MAX_CHANGED: usize = 500;

/// The fleet at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub groups: Vec<GroupSnapshot>,
    /// Columns that a sensor has ever measured.
    pub columns: Vec<Metric>,
    pub other_metrics: BTreeSet<Arc<str>>,
    /// Those of the readings' sensors.
    pub names: Arc<SensorNames>,
}

#[derive(Debug)]
pub(super) struct GroupSnapshot {
    pub group: Arc<Group>,
    pub sensors: u64,
    pub silent: u64,
    /// The newest moment that is not ahead of our clock.
    pub last_at: Option<i64>,
    /// The newest moment that is ahead of it.
    pub ahead_at: Option<i64>,
    /// The first [`MAX_LISTED`] by id.
    pub readings: Vec<StoredReading>,
}

/// A reading in the wire format's names.
#[derive(Debug, Serialize)]
pub(super) struct ReadingBody<'a> {
    location: &'a str,
    device_type: &'a str,
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<&'a str>,
    recorded_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    humidity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    motion_detected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    light_level: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_concentration: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    other_metrics: BTreeMap<&'a str, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    states: BTreeMap<&'a str, &'a str>,
}

impl<'a> ReadingBody<'a> {
    pub(super) fn new(reading: &'a StoredReading, names: &'a SensorNames) -> Self {
        Self {
            location: &reading.group.location,
            device_type: &reading.group.device_type,
            iot_sensor_id: reading.sensor,
            sensor_name: names.get(reading.sensor),
            recorded_timestamp: display(reading.recorded_at),
            temperature: reading.temperature.map(widen),
            humidity: reading.humidity.map(widen),
            pressure: reading.pressure.map(widen),
            motion_detected: reading.motion_detected,
            light_level: reading.light_level.map(widen),
            gas_concentration: reading.gas_concentration.map(widen),
            other_metrics: reading.other_metrics.iter().map(|(name, value)| (&**name, *value)).collect(),
            states: reading.states.iter().map(|(name, text)| (&**name, &**text)).collect(),
        }
    }
}

/// `GET /api/fleet` and the event `fleet`.
#[derive(Debug, Serialize)]
pub(super) struct FleetBody<'a> {
    at: String,
    silent_after_seconds: u64,
    sensors: u64,
    silent: u64,
    metrics: Vec<MetricBody<'a>>,
    groups: Vec<GroupBody<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct MetricBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
}

impl<'a> MetricBody<'a> {
    /// A metric of one sensor.
    pub(super) fn of(metric: &'a Metric, units: &'a SensorUnits) -> Self {
        Self { name: metric.name(), unit: units.unit(metric) }
    }
}

impl<'a> From<&'a Metric> for MetricBody<'a> {
    fn from(metric: &'a Metric) -> Self {
        Self { name: metric.name(), unit: metric.unit() }
    }
}

#[derive(Debug, Serialize)]
struct GroupBody<'a> {
    location: &'a str,
    device_type: &'a str,
    sensors: u64,
    silent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_timestamp: Option<String>,
}

/// The event `readings`: newest readings that have changed.
#[derive(Debug, Serialize)]
pub(super) struct ChangesBody<'a> {
    pub at: String,
    /// More have changed than are listed.
    pub truncated: bool,
    pub readings: Vec<ReadingBody<'a>>,
}

impl Snapshot {
    /// Reads all groups. A sensor is silent when its newest reading is older than `silent_after`.
    pub(super) async fn read(session: &Session, silent_after: Duration) -> Result<Self, Error> {
        let at = Utc::now().timestamp_millis();
        let since = at.saturating_sub(i64::try_from(silent_after.as_millis()).unwrap_or(i64::MAX));
        let known: Vec<Arc<Group>> = groups::groups(session).await?.into_iter().map(Arc::new).collect();
        let listed = MAX_LISTED.min(MAX_HELD / known.len().max(1)).max(1);
        let mut snapshots = stream::iter(known.into_iter().enumerate())
            .map(|(index, group)| {
                // Groups beyond the limit are only counted.
                let listed = if index < MAX_HELD { listed } else { 0 };
                read_group(session, group, (since, at + AHEAD), listed)
            })
            .buffered(IN_FLIGHT);
        let mut snapshot = Self { at, ..Self::default() };
        let mut columns = HashSet::new();
        while let Some((group, names)) = snapshots.try_next().await? {
            let room = MAX_NAMES.saturating_sub(snapshot.other_metrics.len());
            snapshot.other_metrics.extend(names.iter().take(room).cloned());
            columns.extend(names.columns());
            snapshot.groups.push(group);
        }
        snapshot.columns = Metric::COLUMNS.into_iter().filter(|column| columns.contains(column)).collect();
        Ok(snapshot)
    }

    pub(super) fn body(&self, silent_after: Duration) -> FleetBody<'_> {
        let columns = self.columns.iter().map(MetricBody::from);
        let others = self.other_metrics.iter().map(|name| MetricBody { name, unit: None });
        FleetBody {
            at: display(self.at),
            silent_after_seconds: silent_after.as_secs(),
            sensors: self.groups.iter().map(|group| group.sensors).sum(),
            silent: self.groups.iter().map(|group| group.silent).sum(),
            metrics: columns.chain(others).collect(),
            groups: self
                .groups
                .iter()
                .map(|group| GroupBody {
                    location: &group.group.location,
                    device_type: &group.group.device_type,
                    sensors: group.sensors,
                    silent: group.silent,
                    recorded_timestamp: group.last_at.map(display),
                    ahead_timestamp: group.ahead_at.map(display),
                })
                .collect(),
        }
    }

    pub(super) fn readings(&self) -> impl Iterator<Item = &StoredReading> {
        self.groups.iter().flat_map(|group| &group.readings)
    }

    /// The readings that differ from an earlier snapshot.
    pub(super) fn changes(&self, before: &Self) -> ChangesBody<'_> {
        let known: HashMap<(&Group, Uuid), &StoredReading> =
            before.readings().map(|reading| ((&*reading.group, reading.sensor), reading)).collect();
        let is_new = |reading: &&StoredReading| {
            known.get(&(&*reading.group, reading.sensor)).is_none_or(|it| it != reading)
        };
        let mut changed = self.readings().filter(is_new);
        let readings =
            changed.by_ref().take(MAX_CHANGED).map(|it| ReadingBody::new(it, &self.names)).collect();
        ChangesBody { at: display(self.at), truncated: changed.next().is_some(), readings }
    }
}

async fn read_group(
    session: &Session,
    group: Arc<Group>,
    (since, ahead): (i64, i64),
    listed: usize,
) -> Result<(GroupSnapshot, Names), Error> {
    let mut names = Names::default();
    let mut found = GroupSnapshot {
        group: group.clone(),
        sensors: 0,
        silent: 0,
        last_at: None,
        ahead_at: None,
        readings: Vec::new(),
    };
    let mut pages = readings::latest(session, &group, None).await?;
    while let Some(page) = pages.next(&mut names).await? {
        found.sensors += page.len() as u64;
        found.silent += page.iter().filter(|reading| reading.recorded_at < since).count() as u64;
        let moments = || page.iter().map(|reading| reading.recorded_at);
        found.last_at = found.last_at.max(moments().filter(|at| *at <= ahead).max());
        found.ahead_at = found.ahead_at.max(moments().filter(|at| *at > ahead).max());
        let room = listed.saturating_sub(found.readings.len());
        found.readings.extend(page.into_iter().take(room));
    }
    Ok((found, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(group: &Arc<Group>, sensor: u128, recorded_at: i64) -> StoredReading {
        StoredReading {
            group: group.clone(),
            sensor: Uuid::from_u128(sensor),
            recorded_at,
            temperature: Some(21.5),
            humidity: None,
            pressure: None,
            light_level: None,
            gas_concentration: None,
            bucket_seconds: 0,
            motion_detected: None,
            other_metrics: Box::default(),
            states: Box::default(),
            has_narrow_metrics: false,
        }
    }

    fn snapshot(readings: &[(u128, i64)]) -> Snapshot {
        let group = Arc::new(Group { location: "plant-1".into(), device_type: "thermostat".into() });
        let readings = readings.iter().map(|(sensor, at)| reading(&group, *sensor, *at)).collect();
        let group =
            GroupSnapshot { group, sensors: 1, silent: 0, last_at: None, ahead_at: Some(20), readings };
        Snapshot { groups: vec![group], columns: vec![Metric::Temperature], ..Snapshot::default() }
    }

    #[test]
    fn only_changed_readings_are_sent_and_their_number_is_bounded() {
        let before = snapshot(&[(1, 10), (2, 20)]);
        let changes = |after: &Snapshot| {
            let changes = after.changes(&before);
            (
                changes.readings.iter().map(|it| it.iot_sensor_id.as_u128()).collect::<Vec<_>>(),
                changes.truncated,
            )
        };
        assert_eq!(changes(&snapshot(&[(1, 10), (2, 20)])), (vec![], false));
        assert_eq!(changes(&snapshot(&[(1, 10), (2, 21), (3, 5)])), (vec![2, 3], false));
        let many: Vec<_> = (10..=10 + MAX_CHANGED as u128).map(|sensor| (sensor, 1)).collect();
        let (sent, truncated) = changes(&snapshot(&many));
        assert_eq!((sent.len(), truncated), (MAX_CHANGED, true));
    }

    #[test]
    fn metrics_that_no_sensor_has_are_not_listed_and_a_clock_that_is_ahead_is_apart() {
        let snapshot = snapshot(&[(1, 10)]);
        let body = serde_json::to_value(snapshot.body(Duration::from_secs(1))).unwrap();
        assert_eq!(body["metrics"], serde_json::json!([{ "name": "temperature", "unit": "°C" }]));
        assert_eq!(body["groups"][0]["ahead_timestamp"], "1970-01-01T00:00:00.020Z");
        assert_eq!(body["groups"][0].get("recorded_timestamp"), None);
    }
}
