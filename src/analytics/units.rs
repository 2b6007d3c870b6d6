//! The unit of a metric: that of its column, or what the tags `unit.METRIC` of its sensors say.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::tags::Chosen;
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Metric};
use crate::store::sensors::{self, Detail, Registered, Tags};

/// Which sensors a question is about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub groups: &'a [Arc<Group>],
    pub sensor: Option<Uuid>,
    pub chosen: Option<&'a Chosen>,
}

/// Units of one metric: that of its column, or those of the sensors that a question is about. A unit is shown for the sensors that
/// have it, and for no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    column: Option<&'static str>,
    of: HashMap<Uuid, Arc<str>>,
    /// All that there are.
    all: BTreeSet<Arc<str>>,
    /// Whether a sensor that was asked about has none.
    has_unknown: bool,
}

impl Units {
    /// Reads the registry where the metric has no column. Memory grows with the number of sensors that have the tag.
    pub async fn of(session: &Session, asked: Asked<'_>, metric: &Metric) -> Result<Self, Error> {
        let mut units = Self { column: metric.unit(), ..Self::default() };
        let Metric::Other(name) = metric else { return Ok(units) };
        let key = tag(name);
        let mut take = |group: &Arc<Group>, registered: Registered| {
            let is_asked = asked.sensor.is_none_or(|sensor| sensor == registered.sensor)
                && asked.chosen.is_none_or(|chosen| chosen.contains(group, registered.sensor));
            if is_asked {
                units.note(registered.sensor, registered.all_tags().remove(&key));
            }
        };
        match asked.sensor {
            Some(sensor) => {
                for (group, registered) in sensors::registered_as(session, sensor).await? {
                    take(&group, registered);
                }
            }
            None => sensors::each(session, asked.groups, Detail::NamesAndTags, take).await?,
        }
        Ok(units)
    }

    fn note(&mut self, sensor: Uuid, unit: Option<String>) {
        let Some(unit) = unit else {
            self.has_unknown = true;
            return;
        };
        let unit = match self.all.get(unit.as_str()) {
            Some(known) => known.clone(),
            None => {
                let unit: Arc<str> = unit.into();
                self.all.insert(unit.clone());
                unit
            }
        };
        self.of.insert(sensor, unit);
    }

    /// The unit, if all sensors that were asked about have it.
    pub fn one(&self) -> Option<&str> {
        match (self.column, self.all.len(), self.has_unknown) {
            (Some(column), ..) => Some(column),
            (None, 1, false) => self.all.first().map(|unit| &**unit),
            _ => None,
        }
    }

    /// That of a sensor.
    pub fn of_sensor(&self, sensor: Uuid) -> Option<&str> {
        self.column.or_else(|| self.of.get(&sensor).map(|unit| &**unit))
    }

    /// The unit, if all of these sensors have it.
    pub fn among(&self, sensors: impl IntoIterator<Item = Uuid>) -> Option<&str> {
        let mut units = sensors.into_iter().map(|sensor| self.of_sensor(sensor));
        let first = units.next()??;
        units.all(|unit| unit == Some(first)).then_some(first)
    }

    /// Whether any sensor has a unit.
    pub fn are_known(&self) -> bool {
        self.column.is_some() || !self.all.is_empty()
    }

    /// What a reader must know of values that are in several units.
    pub fn remark(&self, metric: &Metric) -> Option<String> {
        const MOST: usize = 5;
        let names: Vec<&str> = self.all.iter().map(|unit| &**unit).take(MOST).collect();
        (self.all.len() > 1).then(|| {
            format!(
                "the sensors have {metric} in different units ({}): the values are as they were sent",
                names.join(", ")
            )
        })
    }
}

/// The tag that has the unit of another metric.
fn tag(metric: &str) -> String {
    format!("unit.{metric}")
}

/// Units of one sensor's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SensorUnits {
    /// Of each group that it is registered in.
    tags: Vec<Tags>,
}

impl SensorUnits {
    /// Of what the registry knows of the sensor.
    pub fn of(known: &[(Arc<Group>, Registered)]) -> Self {
        Self { tags: known.iter().map(|(_, registered)| registered.all_tags()).collect() }
    }

    /// The unit of a metric, if it is the same in all groups of the sensor.
    pub fn unit(&self, metric: &Metric) -> Option<&str> {
        let Metric::Other(name) = metric else { return metric.unit() };
        let key = tag(name);
        let mut units = self.tags.iter().map(|tags| tags.get(&key).map(String::as_str));
        let first = units.next()??;
        units.all(|unit| unit == Some(first)).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(names: &[Option<&str>]) -> Units {
        let mut units = Units::default();
        for (sensor, name) in names.iter().enumerate() {
            units.note(Uuid::from_u128(sensor as u128), name.map(str::to_owned));
        }
        units
    }

    #[test]
    fn a_unit_is_shown_where_all_agree() {
        let flow = Metric::named("flow");
        let litres = Some("l/min");
        assert_eq!(units(&[litres, litres]).one(), litres);
        assert_eq!(units(&[litres]).remark(&flow), None);
        assert_eq!((units(&[]).one(), units(&[Some("l"), Some("m3")]).one()), (None, None));
        assert!(units(&[Some("l"), Some("m3")]).remark(&flow).unwrap().contains("(l, m3)"));
    }

    #[test]
    fn the_unit_of_one_sensor_is_not_that_of_another_without_one() {
        let found = units(&[Some("l/min"), None, Some("l/min"), Some("m3/h")]);
        let of = |sensor| found.of_sensor(Uuid::from_u128(sensor));
        assert_eq!((of(0), of(1), of(3)), (Some("l/min"), None, Some("m3/h")));
        let among = |sensors: &[u128]| found.among(sensors.iter().map(|it| Uuid::from_u128(*it)));
        assert_eq!((among(&[0, 2]), among(&[3])), (Some("l/min"), Some("m3/h")));
        assert_eq!([among(&[0, 1]), among(&[1, 0]), among(&[0, 3]), among(&[])], [None; 4]);
        let one = units(&[Some("l/min"), None]);
        assert_eq!((one.one(), one.are_known(), units(&[None]).are_known()), (None, true, false));
        let column = Units { column: Metric::Temperature.unit(), ..Units::default() };
        assert_eq!((column.one(), column.among([Uuid::nil()])), (Some("°C"), Some("°C")));
    }
}
