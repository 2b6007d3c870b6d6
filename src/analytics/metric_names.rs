//! The names of other metrics that groups have.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cassandra::{Error, Session};
use crate::reading::Group;
use crate::store::readings::{self, Names};

/// Sensors whose newest reading is searched for names.
const MAX_SENSORS: usize = 10_000;

/// The names of other metrics in the newest readings of `groups`. A bounded number of sensors is searched.
pub async fn other_metric_names(
    session: &Session,
    groups: &[Arc<Group>],
) -> Result<BTreeSet<Arc<str>>, Error> {
    let mut found = BTreeSet::new();
    let mut asked = 0;
    for group in groups {
        let mut names = Names::default();
        let mut pages = readings::latest(session, group, None).await?;
        while let Some(page) = pages.next(&mut names).await? {
            asked += page.len();
            if asked >= MAX_SENSORS {
                break;
            }
        }
        found.extend(names.iter().cloned());
        if asked >= MAX_SENSORS {
            break;
        }
    }
    Ok(found)
}
