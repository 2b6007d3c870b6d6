//! Which groups a question is about, and what to say when there is no such group.

use std::sync::Arc;

use uuid::Uuid;

use crate::cassandra::Session;
use crate::error::UsageError;
use crate::reading::Group;
use crate::store::groups;

/// Names this far apart (Jaro-Winkler, 0 to 1) are offered as what was meant.
const ALIKE: f64 = 0.7;
const MOST_OFFERED: usize = 3;

/// Nobody has ever sent a reading for what was asked. Exit code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReadings {
    #[error("no readings for {wanted} ({offer})")]
    Group { wanted: String, offer: String },
    #[error("no readings of sensor {sensor} (`iotctl sensors` lists groups and sensors)")]
    Sensor { sensor: Uuid },
    #[error("no readings of sensor {sensor} for {wanted} (it has sent as {known})")]
    SensorElsewhere { sensor: Uuid, wanted: String, known: String },
}

/// Names to narrow a question down by; absent ones match all groups.
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

    /// As a message names it.
    pub fn describe(&self) -> String {
        match (&self.location, &self.device_type) {
            (Some(location), Some(device_type)) => format!("location {location}, device type {device_type}"),
            (Some(location), None) => format!("location {location}"),
            (None, Some(device_type)) => format!("device type {device_type}"),
            (None, None) => "any group".to_owned(),
        }
    }

    /// All matching groups; an error where a name was given that none has.
    pub async fn resolve(&self, session: &Session) -> anyhow::Result<Vec<Arc<Group>>> {
        let known = groups::groups(session).await?;
        let matching: Vec<_> =
            known.iter().filter(|group| self.matches(group)).cloned().map(Arc::new).collect();
        if matching.is_empty() && *self != Self::default() {
            return Err(NoReadings::Group { wanted: self.describe(), offer: self.offer(&known) }.into());
        }
        Ok(matching)
    }

    /// The groups of a sensor that match.
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

    /// The one group that is meant by both names, without listing all: what is not recorded has no partitions, and
    /// the caller asks [`Selection::explain_absence`] then.
    pub fn exactly(&self) -> Result<Arc<Group>, UsageError> {
        match (&self.location, &self.device_type) {
            (Some(location), Some(device_type)) => {
                Ok(Arc::new(Group { location: location.clone(), device_type: device_type.clone() }))
            }
            _ => Err(UsageError::new(
                "name the readings by --location and --device-type, or by --sensor (`iotctl sensors` lists them)",
            )),
        }
    }

    /// Fails where no group matches; to be asked when nothing was found.
    pub async fn explain_absence(&self, session: &Session) -> anyhow::Result<()> {
        self.resolve(session).await.map(|_| ())
    }

    /// What narrows down to `group` by the same names as this does.
    fn named_alike(&self, group: &Group) -> Self {
        Self {
            location: self.location.as_ref().map(|_| group.location.clone()),
            device_type: self.device_type.as_ref().map(|_| group.device_type.clone()),
        }
    }

    /// The remedy: the closest names, or that there are none at all.
    fn offer(&self, known: &[Group]) -> String {
        if known.is_empty() {
            return "nothing is stored yet: run `iotctl simulate` and `iotctl ingest`".to_owned();
        }
        let likeness = |wanted: &Option<String>, name: &str| {
            wanted
                .as_ref()
                .map_or(1.0, |wanted| strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()))
        };
        let mut alike: Vec<(f64, &Group)> = known
            .iter()
            .map(|group| {
                let location = likeness(&self.location, &group.location);
                (location.min(likeness(&self.device_type, &group.device_type)), group)
            })
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        if alike.is_empty() {
            return format!("{} groups are known, see `iotctl sensors`", known.len());
        }
        let mut names: Vec<String> = Vec::new();
        for (_, group) in alike {
            let name = self.named_alike(group).describe();
            if names.len() < MOST_OFFERED && !names.contains(&name) {
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
    fn a_misspelt_group_is_offered_the_closest_names() {
        let offer = select("plant-1", "termostat").offer(&known());
        assert!(offer.starts_with("did you mean location plant-1, device type thermostat"), "{offer}");
        assert!(!offer.contains("office"), "{offer}");
    }

    #[test]
    fn a_misspelt_location_alone_is_offered_locations_alone() {
        let mut known = known();
        known.push(Group { location: "plant-1".into(), device_type: "motion".into() });
        let selection = Selection { location: Some("plnat-1".into()), device_type: None };
        assert_eq!(selection.offer(&known), "did you mean location plant-1, or location plant-2?");
    }

    #[test]
    fn what_is_like_nothing_known_is_sent_to_the_list() {
        assert_eq!(select("zzz", "qqq").offer(&known()), "3 groups are known, see `iotctl sensors`");
        assert!(select("a", "b").offer(&[]).contains("nothing is stored yet"));
    }

    #[test]
    fn a_group_needs_both_names() {
        assert!(Selection::default().exactly().unwrap_err().to_string().contains("--sensor"));
        assert_eq!(select("a", "b").exactly().unwrap().location, "a");
    }
}
