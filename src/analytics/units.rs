//! The unit of a metric: that of its column, or what the tags `unit.METRIC` of its sensors say.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::tags::Chosen;
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Metric};
use crate::store::sensors::{self, Detail};

/// Which sensors a question is about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub groups: &'a [Arc<Group>],
    pub sensor: Option<Uuid>,
    pub chosen: Option<&'a Chosen>,
}

/// Units of one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    all: BTreeSet<String>,
}

impl Units {
    /// Reads the registry where the metric has no column. Memory grows with the number of different units.
    pub async fn of(session: &Session, asked: Asked<'_>, metric: &Metric) -> Result<Self, Error> {
        let mut units = Self::default();
        let name = match metric {
            Metric::Other(name) => name,
            column => {
                units.all.extend(column.unit().map(str::to_owned));
                return Ok(units);
            }
        };
        let key = format!("unit.{name}");
        let mut take = |group: &Arc<Group>, registered: sensors::Registered| {
            let is_asked = asked.sensor.is_none_or(|sensor| sensor == registered.sensor)
                && asked.chosen.is_none_or(|chosen| chosen.contains(group, registered.sensor));
            if is_asked && let Some(unit) = registered.all_tags().remove(&key) {
                units.all.insert(unit);
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

    /// The unit, if all agree.
    pub fn one(&self) -> Option<&str> {
        match self.all.len() {
            1 => self.all.first().map(String::as_str),
            _ => None,
        }
    }

    /// What a reader must know of values that are in several units.
    pub fn remark(&self, metric: &Metric) -> Option<String> {
        const MOST: usize = 5;
        let names: Vec<&str> = self.all.iter().map(String::as_str).take(MOST).collect();
        (self.all.len() > 1).then(|| {
            format!(
                "the sensors have {metric} in different units ({}): the values are as they were sent",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_shown_where_all_agree() {
        let units = |names: &[&str]| Units { all: names.iter().map(|name| (*name).to_owned()).collect() };
        let flow = Metric::named("flow");
        assert_eq!(units(&["l/min", "l/min"]).one(), Some("l/min"));
        assert_eq!(units(&["l/min"]).remark(&flow), None);
        assert_eq!((units(&[]).one(), units(&["l", "m3"]).one()), (None, None));
        assert!(units(&["l", "m3"]).remark(&flow).unwrap().contains("(l, m3)"));
    }
}
