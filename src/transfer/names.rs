//! The names of sensors for the rows of an export: those of a group are read once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use uuid::Uuid;

use crate::cassandra::{Error, Session};
use crate::reading::{Group, Reading};
use crate::store::sensors;

/// Names that are kept; of further groups they are read again for each of their files. About 100 MB.
const MOST: usize = 1_000_000;

/// The names of a group's sensors.
pub(super) type Names = HashMap<Uuid, Box<str>>;

/// By group.
#[derive(Debug, Default)]
pub struct GroupNames(Mutex<HashMap<Arc<Group>, Arc<Names>>>);

impl GroupNames {
    pub(super) async fn of(&self, session: &Session, group: &Arc<Group>) -> Result<Arc<Names>, Error> {
        // Held while they are read: parts of one group wait for the first of them.
        let mut known = self.0.lock().await;
        if let Some(names) = known.get(group) {
            return Ok(names.clone());
        }
        let names = Arc::new(sensors::names_in(session, group).await?);
        if known.values().map(|names| names.len()).sum::<usize>() + names.len() > MOST {
            known.clear();
        }
        known.insert(group.clone(), names.clone());
        Ok(names)
    }
}

/// The reading with what its sensor is called.
pub(super) fn named<'a>(mut reading: Reading<'a>, names: &'a Names) -> Reading<'a> {
    reading.sensor_name = names.get(&reading.sensor).map(|name| Cow::Borrowed(&**name));
    reading
}
