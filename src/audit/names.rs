//! The names behind the numbers by which records know their groups.

use std::collections::HashMap;

use super::record::group_id;
use crate::reading::Group;

/// Groups that are remembered by name. For sensors of further groups the report has the sensor id only.
const MAX_GROUPS: usize = 100_000;

/// Groups by their ids ([`group_id`]).
#[derive(Debug, Default)]
pub struct GroupNames(HashMap<u64, Group>);

impl GroupNames {
    /// Remembers a group, and returns its id.
    pub fn note(&mut self, location: &str, device_type: &str) -> u64 {
        let id = group_id(location, device_type);
        if self.0.len() < MAX_GROUPS {
            self.0.entry(id).or_insert_with(|| Group {
                location: location.to_owned(),
                device_type: device_type.to_owned(),
            });
        }
        id
    }

    /// The group of an id; `None` beyond the first [`MAX_GROUPS`].
    pub fn get(&self, id: u64) -> Option<&Group> {
        self.0.get(&id)
    }
}
