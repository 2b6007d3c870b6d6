//! The groups that a question is about, and the error if there is no such group.

use std::sync::Arc;

use uuid::Uuid;

use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::text::one_or_many;
use crate::reading::Group;
use crate::reading::sensor;
use crate::store::{groups, sensors};

/// Minimum similarity (Jaro-Winkler, 0 to 1) of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.7;
const MAX_SUGGESTIONS: usize = 3;

/// No reading was ever stored for the group or sensor. Exit code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReadings {
    #[error("no readings for {wanted} ({remedy})")]
    Group { wanted: String, remedy: String },
    #[error("no readings of sensor {sensor} (`iotctl sensors` lists the sensors)")]
    Sensor { sensor: Uuid },
    #[error("no sensor is called {name} ({remedy})")]
    Name { name: String, remedy: String },
    #[error("no sensor has {wanted} (`iotctl sensors show` prints the tags of one)")]
    Tags { wanted: String },
    #[error("no readings of sensor {sensor} for {wanted} (its readings are for {known})")]
    SensorElsewhere { sensor: Uuid, wanted: String, known: String },
}

/// The sensor of this id or name: the one that its messages call so, else the one that people call so.
///
/// # Errors
/// [`NoReadings::Name`] where there is none; a usage error where several are called so.
pub async fn sensor_called(session: &Session, name: &str) -> anyhow::Result<Uuid> {
    let id = sensor::id(name);
    if Uuid::try_parse(name).is_ok() || !groups::groups_of_sensor(session, id).await?.is_empty() {
        return Ok(id);
    }
    let (found, similar) = sensors::called(session, name).await?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let remedy = match similar.is_empty() {
                true => "`iotctl sensors` lists the sensors".to_owned(),
                false => format!("did you mean {}?", similar.join(", or ")),
            };
            Err(NoReadings::Name { name: name.to_owned(), remedy }.into())
        }
        several => {
            let ids: Vec<_> = several.iter().take(MAX_SUGGESTIONS).map(Uuid::to_string).collect();
            let text = format!(
                "{} sensors are called {name} (name one by its id, such as {})",
                several.len(),
                ids.join(" or ")
            );
            Err(UsageError::new(text).into())
        }
    }
}

/// A selection of groups by name; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub location: Option<String>,
    pub device_type: Option<String>,
}

impl Selection {
    pub fn matches(&self, group: &Group) -> bool {
        self.location.as_ref().is_none_or(|location| *location == group.location)
            && self.device_type.as_ref().is_none_or(|device_type| *device_type == group.device_type)
    }

    /// The selection in words, for messages.
    pub fn describe(&self) -> String {
        match (&self.location, &self.device_type) {
            (Some(location), Some(device_type)) => format!("location {location}, device type {device_type}"),
            (Some(location), None) => format!("location {location}"),
            (None, Some(device_type)) => format!("device type {device_type}"),
            (None, None) => "any group".to_owned(),
        }
    }

    /// All matching groups. Fails if names were given and no group has them.
    pub async fn resolve(&self, session: &Session) -> anyhow::Result<Vec<Arc<Group>>> {
        let known = groups::groups(session).await?;
        let matching: Vec<_> =
            known.iter().filter(|group| self.matches(group)).cloned().map(Arc::new).collect();
        if matching.is_empty() && *self != Self::default() {
            return Err(NoReadings::Group { wanted: self.describe(), remedy: self.remedy(&known) }.into());
        }
        Ok(matching)
    }

    /// The groups of a sensor that match. Fails if there are none.
    pub async fn resolve_sensor(&self, session: &Session, sensor: Uuid) -> anyhow::Result<Vec<Arc<Group>>> {
        let known = groups::groups_of_sensor(session, sensor).await?;
        if known.is_empty() {
            return Err(NoReadings::Sensor { sensor }.into());
        }
        let matching: Vec<_> =
            known.iter().filter(|group| self.matches(group)).cloned().map(Arc::new).collect();
        if matching.is_empty() {
            let known: Vec<_> = known.iter().map(name).collect();
            let (wanted, known) = (self.describe(), known.join("; "));
            return Err(NoReadings::SensorElsewhere { sensor, wanted, known }.into());
        }
        Ok(matching)
    }

    /// The one group with both names, without a look-up. A group that does not exist has no partitions; the caller then
    /// asks [`Selection::explain_absence`].
    pub fn exactly(&self) -> Result<Arc<Group>, UsageError> {
        match (&self.location, &self.device_type) {
            (Some(location), Some(device_type)) => {
                Ok(Arc::new(Group { location: location.clone(), device_type: device_type.clone() }))
            }
            _ => Err(UsageError::new(
                "--location and --device-type, or --sensor, are required (`iotctl sensors` lists them)",
            )),
        }
    }

    /// Fails if no group matches; for the case that nothing was found.
    pub async fn explain_absence(&self, session: &Session) -> anyhow::Result<()> {
        self.resolve(session).await.map(|_| ())
    }

    /// The selection of `group` by the same names as this one.
    fn same_names(&self, group: &Group) -> Self {
        Self {
            location: self.location.as_ref().map(|_| group.location.clone()),
            device_type: self.device_type.as_ref().map(|_| group.device_type.clone()),
        }
    }

    /// The remedy: the closest names, or the hint that nothing is stored yet.
    fn remedy(&self, known: &[Group]) -> String {
        if known.is_empty() {
            return "nothing is stored yet: run `iotctl simulate` and `iotctl ingest`".to_owned();
        }
        let similarity = |wanted: &Option<String>, name: &str| {
            wanted
                .as_ref()
                .map_or(1.0, |wanted| strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()))
        };
        let mut similar: Vec<(f64, &Group)> = known
            .iter()
            .map(|group| {
                let location = similarity(&self.location, &group.location);
                (location.min(similarity(&self.device_type, &group.device_type)), group)
            })
            .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
            .collect();
        similar.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        if similar.is_empty() {
            let exist = one_or_many(known.len(), "group exists", "groups exist");
            return format!("{exist}, see `iotctl sensors`");
        }
        let mut names: Vec<String> = Vec::new();
        for (_, group) in similar {
            let name = self.same_names(group).describe();
            if names.len() < MAX_SUGGESTIONS && !names.contains(&name) {
                names.push(name);
            }
        }
        format!("did you mean {}?", names.join(", or "))
    }
}

fn name(group: &Group) -> String {
    format!("location {}, device type {}", group.location, group.device_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(location: &str, device_type: &str) -> Selection {
        Selection { location: Some(location.into()), device_type: Some(device_type.into()) }
    }

    fn known() -> Vec<Group> {
        [("plant-1", "thermostat"), ("plant-2", "thermostat"), ("office", "motion")]
            .map(|(location, device_type)| Group {
                location: location.into(),
                device_type: device_type.into(),
            })
            .to_vec()
    }

    #[test]
    fn a_misspelt_group_gets_the_closest_names_as_suggestions() {
        let remedy = select("plant-1", "termostat").remedy(&known());
        assert!(remedy.starts_with("did you mean location plant-1, device type thermostat"), "{remedy}");
        assert!(!remedy.contains("office"), "{remedy}");
    }

    #[test]
    fn a_misspelt_location_alone_gets_only_locations_as_suggestions() {
        let mut known = known();
        known.push(Group { location: "plant-1".into(), device_type: "motion".into() });
        let selection = Selection { location: Some("plnat-1".into()), device_type: None };
        assert_eq!(selection.remedy(&known), "did you mean location plant-1, or location plant-2?");
    }

    #[test]
    fn a_name_like_no_known_one_is_referred_to_the_list() {
        assert_eq!(select("zzz", "qqq").remedy(&known()), "3 groups exist, see `iotctl sensors`");
        assert!(select("a", "b").remedy(&[]).contains("nothing is stored yet"));
    }

    #[test]
    fn a_group_needs_both_names() {
        assert!(Selection::default().exactly().unwrap_err().to_string().contains("--sensor"));
        assert_eq!(select("a", "b").exactly().unwrap().location, "a");
    }
}
