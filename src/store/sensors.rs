//! The registry of sensors: what people call each of them, and its tags.
//!
//! Ingest writes `name` and `mapped_tags`; people write `given_name` and `tags`. Neither writes the other's columns, so no
//! replay undoes what people have said, and what they take back shows the message's own again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::groups::{self, key};
use crate::cassandra::{Error, Pages, Row, Session, Values};
use crate::reading::Group;

/// The registry's table.
pub(super) const TABLE: &str = "iot_sensors";
/// The name that its messages have.
pub(super) const NAME: &str = "name";
/// The name that people have given it instead.
const GIVEN_NAME: &str = "given_name";
/// Tags that people have set.
const TAGS: &str = "tags";
/// Tags that its messages have.
pub(super) const MAPPED_TAGS: &str = "mapped_tags";

/// Sensors that are asked for by their ids; of more, a range of the group is read.
const MAX_BY_ID: usize = 100;
const PAGE_ROWS: i32 = 5_000;
/// Names that [`SensorNames`] keeps: about 20 MB.
const MAX_KNOWN: usize = 100_000;
/// Groups that are searched at once.
const IN_FLIGHT: usize = 8;

/// Tags by their keys.
pub type Tags = BTreeMap<String, String>;

/// A sensor in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub sensor: Uuid,
    /// What its messages call it.
    pub name: Option<String>,
    /// What people call it instead.
    pub given_name: Option<String>,
    /// Set by people.
    pub tags: Tags,
    /// From its messages.
    pub mapped_tags: Tags,
}

impl Registered {
    /// What it is called: by people, else by its messages.
    pub fn shown_name(&self) -> Option<&str> {
        self.given_name.as_deref().or(self.name.as_deref())
    }

    /// Its tags; what people have set counts before what its messages say.
    pub fn all_tags(&self) -> Tags {
        let mut tags = self.mapped_tags.clone();
        tags.extend(self.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        tags
    }
}

/// Which sensors of a group.
#[derive(Debug, Clone)]
pub enum Which {
    All,
    Ids(Vec<Uuid>),
    /// Both ends included.
    Range(Uuid, Uuid),
}

/// What to read of each sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Names,
    NamesAndTags,
}

/// Sensors of a group, page by page, in order of their ids.
#[derive(Debug)]
pub struct RegisteredPages {
    pages: Pages,
    /// The columns after the id.
    columns: Vec<&'static str>,
}

/// Starts reading the registry of a group. Columns that a table of an earlier version lacks have no values.
pub async fn registered(
    session: &Session,
    group: &Group,
    which: Which,
    detail: Detail,
) -> Result<RegisteredPages, Error> {
    let known = session.columns(TABLE).await?;
    let wanted: &[&'static str] = match detail {
        Detail::Names => &[NAME, GIVEN_NAME],
        Detail::NamesAndTags => &[NAME, GIVEN_NAME, TAGS, MAPPED_TAGS],
    };
    let columns: Vec<_> = wanted.iter().copied().filter(|column| known.contains_key(*column)).collect();
    let selected: String = columns.iter().map(|column| format!(", {column}")).collect();
    let mut values = key(group);
    let narrowed = match which {
        Which::All => "",
        Which::Ids(ids) => {
            values.push_uuid_list(&ids);
            " AND iot_sensor_id IN ?"
        }
        Which::Range(first, last) => {
            values.push_uuid(first);
            values.push_uuid(last);
            " AND iot_sensor_id >= ? AND iot_sensor_id <= ?"
        }
    };
    let cql = format!(
        "SELECT iot_sensor_id{selected} FROM {}.{TABLE} WHERE location = ? AND device_type = ?{narrowed}",
        session.keyspace()
    );
    let statement = session.prepare(&cql).await?;
    Ok(RegisteredPages { pages: session.pages(statement, values, PAGE_ROWS), columns })
}

impl RegisteredPages {
    /// The next page, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Registered>>, Error> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        page.iter().map(|row| self.decode(row)).collect::<Result<_, _>>().map(Some)
    }

    fn decode(&self, row: Row<'_>) -> Result<Registered, Error> {
        let at = |column: &str| self.columns.iter().position(|known| *known == column).map(|index| index + 1);
        let text = |column: &str| match at(column) {
            Some(index) => row.get::<Option<String>>(index),
            None => Ok(None),
        };
        let map = |column: &str| match at(column) {
            Some(index) => Ok(row
                .get::<Option<crate::cassandra::Pairs<String, String>>>(index)?
                .unwrap_or_default()
                .0
                .into_iter()
                .collect()),
            None => Ok::<Tags, Error>(Tags::new()),
        };
        Ok(Registered {
            sensor: row.get(0)?,
            name: text(NAME)?,
            given_name: text(GIVEN_NAME)?,
            tags: map(TAGS)?,
            mapped_tags: map(MAPPED_TAGS)?,
        })
    }
}

/// A sensor in each of its groups.
pub async fn registered_as(session: &Session, sensor: Uuid) -> Result<Vec<(Arc<Group>, Registered)>, Error> {
    let mut found = Vec::new();
    for group in groups::groups_of_sensor(session, sensor).await? {
        let which = Which::Ids(vec![sensor]);
        let mut pages = registered(session, &group, which, Detail::NamesAndTags).await?;
        let group = Arc::new(group);
        while let Some(page) = pages.next().await? {
            found.extend(page.into_iter().map(|registered| (group.clone(), registered)));
        }
    }
    Ok(found)
}

/// What a sensor is called that is registered in several groups: people's name counts in all of them.
pub fn shown_name(known: &[(Arc<Group>, Registered)]) -> Option<&str> {
    let given = known.iter().find_map(|(_, registered)| registered.given_name.as_deref());
    given.or_else(|| known.iter().find_map(|(_, registered)| registered.name.as_deref()))
}

/// Passes every sensor of `groups` to `take`, some groups at once.
pub async fn each(
    session: &Session,
    groups: &[Arc<Group>],
    detail: Detail,
    mut take: impl FnMut(&Arc<Group>, Registered),
) -> Result<(), Error> {
    // Owned groups: a stream of borrowed ones makes this future not `Send` (rust-lang/rust#102211).
    let mut parts = stream::iter(groups.to_vec())
        .map(|group| async move {
            let pages = registered(session, &group, Which::All, detail).await?;
            Ok::<_, Error>((group, pages))
        })
        .buffered(IN_FLIGHT);
    while let Some((group, mut pages)) = parts.try_next().await? {
        while let Some(page) = pages.next().await? {
            page.into_iter().for_each(|registered| take(&group, registered));
        }
    }
    Ok(())
}

/// The sensors that people or messages call `name`, and names that are most like it. Reads the whole registry.
pub async fn called(session: &Session, name: &str) -> Result<(Vec<Uuid>, Vec<String>), Error> {
    const MOST_SIMILAR: usize = 3;
    const LEAST_SIMILARITY: f64 = 0.8;
    let wanted = name.to_lowercase();
    let groups: Vec<_> = groups::groups(session).await?.into_iter().map(Arc::new).collect();
    let mut found: Vec<Uuid> = Vec::new();
    let mut similar: Vec<(f64, String)> = Vec::new();
    each(session, &groups, Detail::Names, |_, registered| {
        let Some(shown) = registered.shown_name() else { return };
        if shown == name || registered.name.as_deref() == Some(name) {
            found.push(registered.sensor);
        } else if found.is_empty() {
            let similarity = strsim::jaro_winkler(&wanted, &shown.to_lowercase());
            if similarity >= LEAST_SIMILARITY && similar.iter().all(|(_, known)| known != shown) {
                similar.push((similarity, shown.to_owned()));
                similar.sort_by(|(left, _), (right, _)| right.total_cmp(left));
                similar.truncate(MOST_SIMILAR);
            }
        }
    })
    .await?;
    found.sort_unstable();
    found.dedup();
    Ok((found, similar.into_iter().map(|(_, name)| name).collect()))
}

/// What the sensors of a group are called. Memory grows with their number.
pub async fn names_in(session: &Session, group: &Group) -> Result<HashMap<Uuid, Box<str>>, Error> {
    let mut names = HashMap::new();
    if session.columns(TABLE).await?.contains_key(NAME) {
        let mut pages = registered(session, group, Which::All, Detail::Names).await?;
        while let Some(page) = pages.next().await? {
            let named = page.iter().filter_map(|it| Some((it.sensor, it.shown_name()?.into())));
            names.extend(named);
        }
    }
    Ok(names)
}

/// Gives a sensor another name in a group, or takes that back.
pub async fn give_name(
    session: &Session,
    group: &Group,
    sensor: Uuid,
    name: Option<&str>,
) -> Result<(), Error> {
    let keyspace = session.keyspace();
    let condition = "WHERE location = ? AND device_type = ? AND iot_sensor_id = ?";
    let (cql, values) = match name {
        Some(name) => (
            format!("UPDATE {keyspace}.{TABLE} SET {GIVEN_NAME} = ? {condition}"),
            Values::new().text(name).text(&group.location).text(&group.device_type),
        ),
        None => (format!("DELETE {GIVEN_NAME} FROM {keyspace}.{TABLE} {condition}"), key(group)),
    };
    session.execute(&*session.prepare(&cql).await?, &values.uuid(sensor)).await.map(drop)
}

/// Sets tags of a sensor in a group, and removes others. Tags that are not named stay.
pub async fn set_tags(
    session: &Session,
    group: &Group,
    sensor: Uuid,
    set: &Tags,
    removed: &[&str],
) -> Result<(), Error> {
    let keyspace = session.keyspace();
    let condition = "WHERE location = ? AND device_type = ? AND iot_sensor_id = ?";
    let rest = |values: Values| values.text(&group.location).text(&group.device_type).uuid(sensor);
    if !set.is_empty() {
        let cql = format!("UPDATE {keyspace}.{TABLE} SET {TAGS} = {TAGS} + ? {condition}");
        let mut values = Values::new();
        values.push_text_map(set.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        session.execute(&*session.prepare(&cql).await?, &rest(values)).await?;
    }
    if !removed.is_empty() {
        let cql = format!("UPDATE {keyspace}.{TABLE} SET {TAGS} = {TAGS} - ? {condition}");
        let mut values = Values::new();
        values.push_text_list(removed);
        session.execute(&*session.prepare(&cql).await?, &rest(values)).await?;
    }
    Ok(())
}

/// # Errors
/// [`Error::Schema`] where the registry is older than this program.
pub async fn check_columns(session: &Session) -> Result<(), Error> {
    let columns = session.columns(TABLE).await?;
    let has_all = [NAME, GIVEN_NAME, TAGS, MAPPED_TAGS].iter().all(|column| columns.contains_key(*column));
    match columns.is_empty() || has_all {
        true => Ok(()),
        false => Err(Error::Schema(format!(
            "table {TABLE} is of an earlier version and has no place for the names and tags of sensors (run `iotctl \
             schema apply`, which adds columns and keeps every row)"
        ))),
    }
}

/// The names of sensors as answers show them: looked up once, for those that are shown.
#[derive(Debug, Clone, Default)]
pub struct SensorNames {
    /// Sensors without a name have an entry too.
    known: HashMap<Uuid, Option<Arc<str>>>,
}

impl SensorNames {
    /// With the name of one sensor, which was looked up in all of its groups.
    pub fn with(mut self, sensor: Uuid, name: Option<&str>) -> Self {
        self.known.insert(sensor, name.map(Arc::from));
        self
    }

    /// Looks up those of `sensors` that are not known yet. Memory is bounded if each call has a bounded number of sensors:
    /// earlier ones are forgotten.
    pub async fn learn<'a>(
        &mut self,
        session: &Session,
        sensors: impl IntoIterator<Item = (&'a Arc<Group>, Uuid)>,
    ) -> Result<(), Error> {
        let shown: Vec<(&Arc<Group>, Uuid)> = sensors.into_iter().collect();
        let is_unknown = |known: &HashMap<_, _>, sensor: &Uuid| !known.contains_key(sensor);
        let new = shown.iter().filter(|(_, sensor)| is_unknown(&self.known, sensor)).count();
        if new == 0 || !session.columns(TABLE).await?.contains_key(NAME) {
            return Ok(());
        }
        if self.known.len() + new > MAX_KNOWN {
            self.known.clear();
        }
        let mut unknown: HashMap<Arc<Group>, HashSet<Uuid>> = HashMap::new();
        for (group, sensor) in shown.into_iter().filter(|(_, sensor)| is_unknown(&self.known, sensor)) {
            match unknown.get_mut(group) {
                Some(ids) => drop(ids.insert(sensor)),
                None => drop(unknown.insert(group.clone(), HashSet::from([sensor]))),
            }
        }
        for (group, ids) in unknown {
            let mut sorted: Vec<Uuid> = ids.iter().copied().collect();
            sorted.sort_unstable();
            let which = match (sorted.first(), sorted.last()) {
                (Some(&first), Some(&last)) if sorted.len() > MAX_BY_ID => Which::Range(first, last),
                _ => Which::Ids(sorted),
            };
            let mut pages = registered(session, &group, which, Detail::Names).await?;
            while let Some(page) = pages.next().await? {
                for registered in page {
                    if ids.contains(&registered.sensor) || self.known.len() < MAX_KNOWN {
                        let name = registered.shown_name().map(Arc::from);
                        let known = self.known.entry(registered.sensor).or_default();
                        // A sensor may be registered in several groups, and people's name counts in all of them.
                        if known.is_none() || registered.given_name.is_some() {
                            *known = name;
                        }
                    }
                }
            }
            for sensor in ids {
                self.known.entry(sensor).or_default();
            }
        }
        Ok(())
    }

    /// Looks up sensors whose groups are not known, some at a time: each costs a question or two of its own.
    pub async fn learn_by_id(
        &mut self,
        session: &Session,
        sensors: impl IntoIterator<Item = Uuid>,
    ) -> Result<(), Error> {
        let unknown: HashSet<Uuid> =
            sensors.into_iter().filter(|sensor| !self.known.contains_key(sensor)).collect();
        if unknown.is_empty() || !session.columns(TABLE).await?.contains_key(NAME) {
            return Ok(());
        }
        if self.known.len() + unknown.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut found = stream::iter(unknown)
            .map(|sensor| async move { Ok::<_, Error>((sensor, registered_as(session, sensor).await?)) })
            .buffer_unordered(IN_FLIGHT);
        while let Some((sensor, registered)) = found.try_next().await? {
            self.known.insert(sensor, shown_name(&registered).map(Arc::from));
        }
        Ok(())
    }

    /// Whether each of `sensors` has been looked up.
    pub fn knows(&self, mut sensors: impl Iterator<Item = Uuid>) -> bool {
        sensors.all(|sensor| self.known.contains_key(&sensor))
    }

    /// What a sensor is called; `None` for one without a name, and for one that was not looked up.
    pub fn get(&self, sensor: Uuid) -> Option<&str> {
        self.known.get(&sensor)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_say_counts_before_what_messages_say() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut sensor = Registered {
            sensor: Uuid::nil(),
            name: Some("th-1".to_owned()),
            given_name: None,
            tags: tags(&[("room", "A12")]),
            mapped_tags: tags(&[("room", "?"), ("model", "X")]),
        };
        assert_eq!(sensor.shown_name(), Some("th-1"));
        assert_eq!(sensor.all_tags(), tags(&[("room", "A12"), ("model", "X")]));
        sensor.given_name = Some("boiler".to_owned());
        assert_eq!(sensor.shown_name(), Some("boiler"));
    }
}
