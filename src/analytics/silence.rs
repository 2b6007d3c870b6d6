//! Sensors that have stopped sending.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::tags::Chosen;
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::store::readings::{self, Names, StoredReading};

/// Groups that are read at once.
const IN_FLIGHT: usize = 8;

/// A sensor that has stopped sending in one of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    pub group: Arc<Group>,
    pub sensor: Uuid,
    /// The time of its newest reading, in milliseconds since the epoch.
    pub last_at: i64,
}

/// The silent sensors, and the number of sensors checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Silence {
    /// The longest silent first, then by location, device type and id.
    pub silent: Vec<Silent>,
    /// Number of sensors checked.
    pub sensors: u64,
}

impl Silence {
    fn check(&mut self, group: &Arc<Group>, readings: &[StoredReading], since: i64) {
        self.sensors += readings.len() as u64;
        let silent = readings.iter().filter(|reading| reading.recorded_at < since);
        self.silent.extend(silent.map(|reading| Silent {
            group: group.clone(),
            sensor: reading.sensor,
            last_at: reading.recorded_at,
        }));
    }

    fn add(&mut self, other: Self) {
        self.sensors += other.sensors;
        self.silent.extend(other.silent);
    }

    fn sort(&mut self) {
        self.silent.sort_unstable_by(|left, right| {
            left.last_at
                .cmp(&right.last_at)
                .then_with(|| left.group.cmp(&right.group))
                .then_with(|| left.sensor.cmp(&right.sensor))
        });
    }
}

/// The sensors of `groups` (only the `chosen` ones, if there are any) without a reading at `since` or later. Memory grows with the number of silent ones only.
pub async fn find(
    session: &Session,
    groups: &[Arc<Group>],
    since: i64,
    chosen: Option<&Chosen>,
) -> Result<Silence, Error> {
    let mut found = Silence::default();
    // Owned groups: a stream of borrowed ones makes this future not `Send` (rust-lang/rust#102211).
    let mut parts = stream::iter(groups.to_vec())
        .map(|group| in_group(session, group, since, chosen))
        .buffer_unordered(IN_FLIGHT);
    while let Some(part) = parts.try_next().await? {
        found.add(part);
    }
    found.sort();
    Ok(found)
}

async fn in_group(
    session: &Session,
    group: Arc<Group>,
    since: i64,
    chosen: Option<&Chosen>,
) -> Result<Silence, Error> {
    let mut found = Silence::default();
    let mut pages = readings::latest(session, &group, None).await?;
    let mut names = Names::default();
    while let Some(mut page) = pages.next(&mut names).await? {
        page.retain(|reading| chosen.is_none_or(|chosen| chosen.contains(&group, reading.sensor)));
        found.check(&group, &page, since);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(group: &Arc<Group>, sensor: u128, recorded_at: i64) -> StoredReading {
        StoredReading {
            group: group.clone(),
            sensor: Uuid::from_u128(sensor),
            recorded_at,
            temperature: None,
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

    #[test]
    fn the_longest_silent_comes_first_and_a_reading_at_the_limit_is_not_silence() {
        let group = |location: &str| {
            Arc::new(Group { location: location.to_owned(), device_type: "thermostat".to_owned() })
        };
        let (first, second) = (group("plant-1"), group("plant-2"));
        let mut found = Silence::default();
        let mut other = Silence::default();
        other.check(&second, &[reading(&second, 4, 50), reading(&second, 5, 20)], 100);
        found.check(&first, &[reading(&first, 1, 99), reading(&first, 2, 100), reading(&first, 3, 50)], 100);
        found.add(other);
        found.sort();
        assert_eq!(found.sensors, 5);
        let order: Vec<_> = found.silent.iter().map(|silent| silent.sensor.as_u128()).collect();
        assert_eq!(order, [5, 3, 4, 1]);
    }
}
