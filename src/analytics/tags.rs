//! Sensors by their tags: which of them a question is about, and what each is counted under.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::groups::NoReadings;
use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::store::sensors::{self, Detail, Tags};

/// Conditions on tags: all keys must hold; of a key with several values, one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagFilter(BTreeMap<String, BTreeSet<String>>);

impl TagFilter {
    pub fn of(pairs: &[(String, String)]) -> Self {
        let mut filter = Self::default();
        for (key, value) in pairs {
            filter.0.entry(key.clone()).or_default().insert(value.clone());
        }
        filter
    }

    fn accepts(&self, tags: &Tags) -> bool {
        self.0.iter().all(|(key, values)| tags.get(key).is_some_and(|value| values.contains(value)))
    }

    /// The filter as flags have it.
    fn describe(&self) -> String {
        let pairs =
            self.0.iter().flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")));
        pairs.collect::<Vec<_>>().join(", ")
    }

    /// The sensors of `groups` that pass. Memory grows with their number.
    ///
    /// # Errors
    /// [`NoReadings::Tags`] where there are none.
    pub async fn choose(&self, session: &Session, groups: &[Arc<Group>]) -> anyhow::Result<Chosen> {
        let mut chosen = Chosen::default();
        sensors::each(session, groups, Detail::NamesAndTags, |group, registered| {
            if self.accepts(&registered.all_tags()) {
                chosen.0.entry(group.clone()).or_default().insert(registered.sensor);
            }
        })
        .await?;
        match chosen.0.is_empty() && !groups.is_empty() {
            true => Err(NoReadings::Tags { wanted: self.describe() }.into()),
            false => Ok(chosen),
        }
    }
}

/// Sensors of some groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen(HashMap<Arc<Group>, HashSet<Uuid>>);

impl Chosen {
    /// The same sensors in each of `groups`.
    pub fn everywhere(groups: &[Arc<Group>], sensors: &BTreeSet<Uuid>) -> Self {
        Self(groups.iter().map(|group| (group.clone(), sensors.iter().copied().collect())).collect())
    }

    pub fn contains(&self, group: &Group, sensor: Uuid) -> bool {
        self.0.get(group).is_some_and(|sensors| sensors.contains(&sensor))
    }

    /// The groups that have one, in order.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self.0.keys().cloned().collect();
        groups.sort_unstable();
        groups
    }
}

/// Each sensor's value of one tag.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TagValues(HashMap<Arc<Group>, HashMap<Uuid, Arc<str>>>);

impl TagValues {
    /// Reads the registry of `groups`. Memory grows with the number of sensors that have the tag.
    pub async fn read(session: &Session, groups: &[Arc<Group>], key: &str) -> Result<Self, Error> {
        let mut values = Self::default();
        sensors::each(session, groups, Detail::NamesAndTags, |group, registered| {
            if let Some(value) = registered.all_tags().remove(key) {
                values.0.entry(group.clone()).or_default().insert(registered.sensor, value.into());
            }
        })
        .await?;
        Ok(values)
    }

    /// Of the sensors of a group.
    pub(super) fn of(&self, group: &Group) -> Option<&HashMap<Uuid, Arc<str>>> {
        self.0.get(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_to_hold_and_of_one_key_any_value() {
        let pairs = |text: &str| -> Vec<(String, String)> {
            let parts = text.split_whitespace().filter_map(|part| part.split_once('='));
            parts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let accepts = |filter: &str, tags: &str| {
            TagFilter::of(&pairs(filter)).accepts(&pairs(tags).into_iter().collect())
        };
        assert!(accepts("room=A12", "room=A12 floor=2"));
        assert!(accepts("room=A12 room=A13 floor=2", "room=A13 floor=2"));
        assert!(!accepts("room=A12 floor=2", "room=A12"));
        assert!(!accepts("room=A12", "room=a12") && !accepts("room=A12", ""));
    }
}
