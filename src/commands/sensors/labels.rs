//! `iotctl sensors rename | tag | show`: what people say about sensors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::analytics::groups::{NoReadings, sensor_called};
use crate::cassandra::{Error, Session};
use crate::commands::Context;
use crate::commands::flags::{self, SensorArg};
use crate::commands::support::until_stopped;
use crate::error::UsageError;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::output::text::plural;
use crate::reading::tags::{self, Line, MAX_TAGS, Subject};
use crate::reading::{Group, is_name, sensor, shown};
use crate::store::groups;
use crate::store::sensors::{self, Detail, Registered, Tags};
use crate::time::Zone;

/// Sensors that are written at once.
const IN_FLIGHT: usize = 16;
/// Mistakes of a file that are listed.
const MAX_ERRORS: usize = 20;

#[derive(Debug, Subcommand)]
pub enum SensorsCommand {
    /// Give a sensor another name, or take that back with --clear
    ///
    /// The sensor keeps its id and its readings. Its messages may go on calling it what they do: no ingest and no replay undoes
    /// the new name. Both names find it.
    #[command(after_help = "Examples:
  iotctl sensors rename th-1 boiler-north
  iotctl sensors rename 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11 'cold store 3'
  iotctl sensors rename boiler-north --clear")]
    Rename {
        /// The sensor, by its id or its name
        #[arg(value_name = "ID|NAME", value_parser = flags::sensor)]
        sensor: SensorArg,
        /// Its new name
        #[arg(value_name = "NEW-NAME", required_unless_present = "clear", conflicts_with = "clear")]
        new_name: Option<String>,
        /// Call it what its messages call it
        #[arg(long)]
        clear: bool,
    },
    /// Set tags of sensors, such as room=A12
    ///
    /// KEY= takes a tag away. Tags that are set here count before those of the messages ([source.tags] of a mapping), which
    /// show again when they are taken away. Other tags stay. The tag unit.METRIC is the unit of a metric.
    ///
    /// A CSV file has a column sensor (ids or names), or location and device_type (every sensor there), and a column for each
    /// tag. An empty cell changes nothing. Every line is checked before the first tag is set.
    #[command(after_help = "Examples:
  iotctl sensors tag th-1 room=A12 floor=2
  iotctl sensors tag th-1 room=
  iotctl sensors tag --from tags.csv --dry-run
  iotctl sensors tag th-1 unit.flow=l/min")]
    Tag {
        /// The sensor, by its id or its name
        #[arg(value_name = "ID|NAME", value_parser = flags::sensor, required_unless_present = "from", conflicts_with = "from")]
        sensor: Option<SensorArg>,
        /// Tags to set
        #[arg(value_name = "KEY=VALUE", value_parser = tags::pair, requires = "sensor")]
        tags: Vec<(String, String)>,
        /// A CSV file of tags
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Print what would be changed, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Output format of --dry-run
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show what is known about a sensor: its groups, names and tags
    #[command(after_help = "Examples:
  iotctl sensors show th-1
  iotctl sensors show th-1 --format json | jq '.[0].tags.room'")]
    Show {
        /// The sensor, by its id or its name
        #[arg(value_name = "ID|NAME", value_parser = flags::sensor)]
        sensor: SensorArg,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) async fn run(command: SensorsCommand, context: Context) -> anyhow::Result<()> {
    match command {
        SensorsCommand::Rename { sensor, new_name, clear: _ } => rename(&sensor, new_name, &context).await,
        SensorsCommand::Tag { sensor: Some(sensor), tags, dry_run, format, .. } => {
            if tags.is_empty() {
                return Err(UsageError::new("no tag is given (add one, such as room=A12)").into());
            }
            let session = open(&context).await?;
            let (id, known) = find(&session, &sensor, &context).await?;
            let mut changes = Changes::new();
            for (group, registered) in known {
                changes.insert((group, id), (registered, tags.iter().cloned().collect()));
            }
            apply(&session, changes, dry_run, format, &context).await
        }
        SensorsCommand::Tag { from: Some(path), dry_run, format, .. } => {
            let file = File::open(&path)
                .map_err(|error| UsageError::new(format!("cannot read {}: {error}", path.display())))?;
            let refused = |errors: Vec<String>| {
                UsageError::new(format!(
                    "{}: {}; nothing was changed (correct the file and run it again)",
                    path.display(),
                    errors.join("; ")
                ))
            };
            let lines = tags::read(file).map_err(refused)?;
            let session = open(&context).await?;
            let changes =
                until_stopped(&context.shutdown, changes(&session, lines)).await?.map_err(refused)?;
            apply(&session, changes, dry_run, format, &context).await
        }
        SensorsCommand::Tag { .. } => Err(UsageError::new("name a sensor, or a file with --from").into()),
        SensorsCommand::Show { sensor, format } => show(&sensor, format, &context).await,
    }
}

/// A session on tables that have a place for names and tags.
async fn open(context: &Context) -> anyhow::Result<Session> {
    let session = Session::connect(&context.config.cassandra).await?;
    until_stopped(&context.shutdown, sensors::check_columns(&session)).await?;
    Ok(session)
}

/// The sensor's id, and what is registered of it in each of its groups.
async fn find(
    session: &Session,
    asked: &SensorArg,
    context: &Context,
) -> anyhow::Result<(Uuid, Vec<(Arc<Group>, Registered)>)> {
    let found = async {
        let id = match &asked.name {
            Some(name) => sensor_called(session, name).await?,
            None => asked.id,
        };
        let known = sensors::registered_as(session, id).await?;
        if known.is_empty() {
            return Err(NoReadings::Sensor { sensor: id }.into());
        }
        Ok::<_, anyhow::Error>((id, known))
    };
    until_stopped(&context.shutdown, found).await
}

async fn rename(asked: &SensorArg, new_name: Option<String>, context: &Context) -> anyhow::Result<()> {
    let new_name = new_name.as_deref().map(str::trim);
    if let Some(name) = new_name
        && (!is_name(name) || Uuid::try_parse(name).is_ok())
    {
        let text =
            "a name has 1 to 256 bytes and no control characters, and is not a UUID (give another one)";
        return Err(UsageError::new(text).into());
    }
    let session = open(context).await?;
    let (id, known) = find(&session, asked, context).await?;
    if let Some(name) = new_name {
        match until_stopped(&context.shutdown, sensor_called(&session, name)).await {
            Ok(other) if other != id => {
                let text = format!("sensor {other} is called {name} already (give another name)");
                return Err(UsageError::new(text).into());
            }
            Ok(_) => {}
            Err(error) if error.is::<NoReadings>() => {}
            Err(error) => return Err(error),
        }
    }
    let before = sensors::shown_name(&known).map(str::to_owned);
    for (group, _) in &known {
        until_stopped(&context.shutdown, sensors::give_name(&session, group, id, new_name)).await?;
    }
    let original = known.iter().find_map(|(_, registered)| registered.name.clone());
    let before = before.unwrap_or_else(|| id.to_string());
    let after = new_name.map(str::to_owned).or(original).unwrap_or_else(|| id.to_string());
    context.output.note(format!("{before} is now called {after}"));
    Ok(())
}

async fn show(asked: &SensorArg, format: Format, context: &Context) -> anyhow::Result<()> {
    let session = Session::connect(&context.config.cassandra).await?;
    let (id, known) = find(&session, asked, context).await?;
    let headings = ["location", "device_type", "iot_sensor_id", "sensor_name", "message_name", "tags"];
    let mut records = context.output.records(format, Zone::Utc, headings.map(Heading::left).to_vec())?;
    for (group, registered) in &known {
        let tags: Vec<(Arc<str>, Arc<str>)> = registered
            .all_tags()
            .iter()
            .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())))
            .collect();
        records.write(&[
            Cell::Text(&group.location),
            Cell::Text(&group.device_type),
            Cell::Uuid(id),
            registered.shown_name().map_or(Cell::Missing, Cell::Text),
            registered.name.as_deref().map_or(Cell::Missing, Cell::Text),
            if tags.is_empty() { Cell::Missing } else { Cell::States(&tags) },
        ])?;
    }
    records.finish().map(drop)
}

/// What is registered of a sensor in a group, and the tags to set; an empty value takes a tag away.
type Changes = BTreeMap<(Arc<Group>, Uuid), (Registered, Tags)>;

/// The changes that the lines of a file ask for; or the lines that name no sensor, and those whose name is not unique.
/// Of two lines about the same tag of a sensor, the later one counts.
async fn changes(session: &Session, lines: Vec<Line>) -> Result<Result<Changes, Vec<String>>, Error> {
    let mut ids: HashSet<Uuid> = HashSet::new();
    let mut names: HashSet<&str> = HashSet::new();
    let mut of_groups: HashSet<Group> = HashSet::new();
    for line in &lines {
        match &line.subject {
            Subject::Sensor(name) => {
                ids.insert(sensor::id(name));
                names.insert(name);
            }
            Subject::Group { location, device_type } => {
                of_groups.insert(Group { location: location.clone(), device_type: device_type.clone() });
            }
        }
    }
    let known: Vec<_> = groups::groups(session).await?.into_iter().map(Arc::new).collect();
    let mut by_id: HashMap<Uuid, Vec<(Arc<Group>, Registered)>> = HashMap::new();
    let mut by_name: HashMap<String, BTreeSet<Uuid>> = HashMap::new();
    let mut by_group: HashMap<Arc<Group>, Vec<Uuid>> = HashMap::new();
    sensors::each(session, &known, Detail::NamesAndTags, |group, registered| {
        let called = [registered.shown_name(), registered.name.as_deref()];
        let called: Vec<&str> = called.into_iter().flatten().filter(|name| names.contains(name)).collect();
        let is_in_group = of_groups.contains(&**group);
        if called.is_empty() && !is_in_group && !ids.contains(&registered.sensor) {
            return;
        }
        for name in called {
            by_name.entry(name.to_owned()).or_default().insert(registered.sensor);
        }
        if is_in_group {
            by_group.entry(group.clone()).or_default().push(registered.sensor);
        }
        by_id.entry(registered.sensor).or_default().push((group.clone(), registered));
    })
    .await?;
    let mut changes = Changes::new();
    let mut errors = Vec::new();
    let mut change = |only: Option<&Group>, sensor: &Uuid, tags: &Tags| {
        for (group, registered) in by_id.get(sensor).into_iter().flatten() {
            if only.is_none_or(|only| *only == **group) {
                let key = (group.clone(), *sensor);
                changes
                    .entry(key)
                    .or_insert_with(|| (registered.clone(), Tags::new()))
                    .1
                    .extend(tags.clone());
            }
        }
    };
    for Line { number, subject, tags } in &lines {
        match subject {
            Subject::Sensor(name) => {
                let id = sensor::id(name);
                let called = by_name.get(name);
                match called.map(|ids| ids.iter().collect::<Vec<_>>()).as_deref() {
                    _ if by_id.contains_key(&id) => change(None, &id, tags),
                    Some([one]) => change(None, one, tags),
                    Some(several) => {
                        errors.push(format!(
                            "line {number}: {} sensors are called {}",
                            several.len(),
                            shown(name)
                        ));
                    }
                    None => errors.push(format!("line {number}: no sensor is called {}", shown(name))),
                }
            }
            Subject::Group { location, device_type } => {
                let group = Group { location: location.clone(), device_type: device_type.clone() };
                match by_group.get(&group) {
                    Some(sensors) => sensors.iter().for_each(|sensor| change(Some(&group), sensor, tags)),
                    None => errors.push(format!(
                        "line {number}: no sensor is at {} with device type {}",
                        shown(location),
                        shown(device_type)
                    )),
                }
            }
        }
    }
    let more = errors.len().saturating_sub(MAX_ERRORS);
    errors.truncate(MAX_ERRORS);
    if more > 0 {
        errors.push(format!("and {more} more"));
    }
    Ok(if errors.is_empty() { Ok(changes) } else { Err(errors) })
}

async fn apply(
    session: &Session,
    mut changes: Changes,
    dry_run: bool,
    format: Format,
    context: &Context,
) -> anyhow::Result<()> {
    // What is so already is not written.
    for (registered, tags) in changes.values_mut() {
        tags.retain(|key, value| registered.tags.get(key).map_or("", String::as_str) != value);
        let kept = registered.tags.keys().filter(|key| !tags.contains_key(*key)).count();
        if kept + tags.values().filter(|value| !value.is_empty()).count() > MAX_TAGS {
            let text = format!(
                "sensor {} would have more than {MAX_TAGS} tags; nothing was changed (take some away with KEY=)",
                registered.sensor
            );
            return Err(UsageError::new(text).into());
        }
    }
    changes.retain(|_, (_, tags)| !tags.is_empty());
    let (sensors, count) = (changes.len(), changes.values().map(|(_, tags)| tags.len()).sum::<usize>());
    if dry_run {
        let headings = ["location", "device_type", "iot_sensor_id", "sensor_name", "tag", "before", "after"];
        let mut records = context.output.records(format, Zone::Utc, headings.map(Heading::left).to_vec())?;
        for ((group, sensor), (registered, tags)) in &changes {
            for (key, value) in tags {
                records.write(&[
                    Cell::Text(&group.location),
                    Cell::Text(&group.device_type),
                    Cell::Uuid(*sensor),
                    registered.shown_name().map_or(Cell::Missing, Cell::Text),
                    Cell::Text(key),
                    registered.tags.get(key).map_or(Cell::Missing, |before| Cell::Text(before)),
                    if value.is_empty() { Cell::Missing } else { Cell::Text(value) },
                ])?;
            }
        }
        records.finish()?;
        context.output.note(format!(
            "{} of {} would be changed",
            plural(count, "tag"),
            plural(sensors, "sensor")
        ));
        return Ok(());
    }
    let bar = context.output.bar(sensors as u64, "sensors");
    let mut writes = stream::iter(changes)
        .map(|((group, sensor), (_, tags))| async move {
            let (removed, set): (Tags, Tags) = tags.into_iter().partition(|(_, value)| value.is_empty());
            let removed: Vec<&str> = removed.keys().map(String::as_str).collect();
            sensors::set_tags(session, &group, sensor, &set, &removed).await
        })
        .buffer_unordered(IN_FLIGHT);
    while until_stopped(&context.shutdown, writes.try_next()).await?.is_some() {
        bar.inc(1);
    }
    bar.finish_and_clear();
    context.output.note(format!("{} of {} changed", plural(count, "tag"), plural(sensors, "sensor")));
    Ok(())
}
