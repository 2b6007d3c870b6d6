//! `iotctl dead-letters`: messages that could not be stored, the reasons, and sending them again once the cause is fixed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::Utc;
use clap::{Args, Subcommand};
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::Context;
use super::flags::TimeArgs;
use super::support::{self, decode_limits, sensor_headings};
use crate::encoding::hex;
use crate::error::Interrupted;
use crate::kafka::Subscription;
use crate::kafka::dead_letters::{LetterBox, Standing, StoredLetter};
use crate::kafka::producer::Position;
use crate::kafka::replay::Replayer;
use crate::mapping::Mapping;
use crate::mapping::advice::{Advice, advice};
use crate::mapping::subject::Subject;
use crate::output::record::{Cell, Heading};
use crate::output::text::grouped;
use crate::output::text::visible_lines;
use crate::output::{Format, closed, table};
use crate::reading::decode::{self, DecodeLimits};
use crate::registry::Lookup;
use crate::shutdown::Shutdown;
use crate::time::TimeRange;

mod sensors;

use sensors::Sensors;

/// Groups of a summary.
const MAX_GROUPS: usize = 1_000;
/// Sensors that a summary tells apart.
const MAX_SENSORS: usize = 100_000;

#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters with their reasons
    #[command(after_help = "Examples:
  iotctl dead-letters list
  iotctl dead-letters list --reason missing_field --last 1h
  iotctl dead-letters list --format csv > letters.csv")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// The mapping that says which sensor a message is about [default: ingest.mapping]
        #[arg(long, value_name = "FILE|PRESET")]
        mapping: Option<String>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Count dead letters by reason, with the mapping key that would store them
    ///
    /// Letters that were replayed are left out.
    #[command(after_help = "Examples:
  iotctl dead-letters summary
  iotctl dead-letters summary --last 24h --mapping plant.toml")]
    Summary {
        #[command(flatten)]
        filter: FilterArgs,
        /// The mapping that the topics are read with [default: ingest.mapping]
        #[arg(long, value_name = "FILE|PRESET")]
        mapping: Option<String>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one dead letter with its whole payload
    #[command(after_help = "Examples:
  iotctl dead-letters show 0:12        # partition and offset in the dead-letter topic, as `list` prints them")]
    Show {
        /// The mapping that says which sensor the message is about [default: ingest.mapping]
        #[arg(long, value_name = "FILE|PRESET")]
        mapping: Option<String>,
        /// Its partition and offset in the dead-letter topic, as `list` prints them
        #[arg(value_name = "PARTITION:OFFSET")]
        id: Position,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Send dead letters to their topic again, for `ingest` to store
    ///
    /// Sends only those that the current decoder and settings accept, unless --all, and each only once, unless --again. Replayed
    /// letters are marked in the dead-letter topic; nothing is deleted. A letter that is sent twice stores one row.
    #[command(after_help = "Examples:
  iotctl dead-letters replay                               # what would be sent
  iotctl dead-letters replay --yes
  iotctl dead-letters replay --reason too_large --yes -O ingest.max_message_bytes=4MiB")]
    Replay {
        #[command(flatten)]
        filter: FilterArgs,
        /// Include letters that would be refused again
        #[arg(long)]
        all: bool,
        /// Include letters that were replayed before
        #[arg(long)]
        again: bool,
        /// The mapping that they are to be accepted by [default: ingest.mapping]
        #[arg(long, value_name = "FILE|PRESET")]
        mapping: Option<String>,
        /// Send them; without this flag they are only counted
        #[arg(long)]
        yes: bool,
    },
    /// Write dead letters as JSON lines, to be fixed by other tools
    #[command(after_help = "Examples:
  iotctl dead-letters export > letters.ndjson
  iotctl dead-letters export --reason not_json --output letters.ndjson

A payload that is not UTF-8 is written as payload_hex.")]
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// New file to write to instead of stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Only letters with this reason, such as not_json
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Only letters from this partition of the source topic
    #[arg(long, value_name = "N")]
    pub partition: Option<i32>,
    /// Maximum number of letters
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub time: TimeArgs,
}

/// The filter with its range of time.
struct Filter {
    args: FilterArgs,
    range: TimeRange,
    taken: u64,
}

impl Filter {
    fn new(args: FilterArgs) -> anyhow::Result<Self> {
        let range = args.time.range(Utc::now().timestamp_millis())?;
        Ok(Self { args, range, taken: 0 })
    }

    fn accepts(&self, letter: &StoredLetter) -> bool {
        self.args.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.args.partition.is_none_or(|partition| partition == letter.source.partition)
            && self.range.contains(letter.timestamp)
    }

    /// Whether the limit allows one more.
    fn has_room(&mut self) -> bool {
        self.taken += 1;
        self.args.limit.is_none_or(|limit| self.taken <= limit)
    }
}

pub async fn run(command: DeadLettersCommand, mut context: Context) -> anyhow::Result<()> {
    if let DeadLettersCommand::Replay { mapping: mapping @ Some(_), .. }
    | DeadLettersCommand::List { mapping: mapping @ Some(_), .. }
    | DeadLettersCommand::Show { mapping: mapping @ Some(_), .. }
    | DeadLettersCommand::Summary { mapping: mapping @ Some(_), .. } = &command
    {
        context.config.ingest.mapping.clone_from(mapping);
    }
    let subscription = Subscription::configured(&context.config)?;
    let letters = LetterBox::open(&context.config.kafka, subscription).await?;
    // Reading blocks; signals and clients are served by the runtime's other threads.
    let work = move || match command {
        DeadLettersCommand::List { filter, mapping: _, format } => {
            list(&letters, Filter::new(filter)?, format, &context)
        }
        DeadLettersCommand::Summary { filter, mapping: _, format } => {
            summary(&letters, Filter::new(filter)?, format, &context)
        }
        DeadLettersCommand::Show { id, mapping: _, format } => show(&letters, id, format, &context),
        DeadLettersCommand::Replay { filter, all, again, mapping: _, yes } => {
            replay(&letters, Filter::new(filter)?, Choice { all, again, yes }, &context)
        }
        DeadLettersCommand::Export { filter, output } => {
            export(&letters, Filter::new(filter)?, output.as_deref(), &context)
        }
    };
    tokio::task::spawn_blocking(work).await.context("the command ended with a panic")?
}

/// Calls `take` with each letter that passes the filter, each message once.
fn each(
    letters: &LetterBox,
    mut filter: Filter,
    shutdown: &Shutdown,
    mut take: impl FnMut(&StoredLetter, Standing) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let failed = letters.each(&|| shutdown.is_requested(), |letter, standing| {
        if standing.is_copy || !filter.accepts(&letter) {
            return ControlFlow::Continue(());
        }
        if !filter.has_room() {
            return ControlFlow::Break(None);
        }
        match take(&letter, standing) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Some(error)),
        }
    })?;
    match failed.flatten() {
        Some(error) => Err(error),
        None if shutdown.is_requested() => Err(Interrupted.into()),
        None => Ok(()),
    }
}

fn list(letters: &LetterBox, filter: Filter, format: Format, context: &Context) -> anyhow::Result<()> {
    let mut headings = vec![Heading::left("id"), Heading::left("reason")];
    headings.extend(sensor_headings(format));
    headings.extend([
        Heading::left("error"),
        Heading::right("partition"),
        Heading::right("offset"),
        Heading::left("timestamp").titled("sent"),
        Heading::right("bytes"),
        Heading::left("replayed"),
        Heading::left("topic"),
    ]);
    let mut sensors = Sensors::open(context);
    let mut records = context.output.records(format, filter.args.time.zone()?, headings)?;
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    each(letters, filter, &context.shutdown, |letter, standing| {
        *reasons.entry(letter.reason.clone()).or_default() += 1;
        let (id, sensor) = (letter.id.to_string(), sensors.of(letter));
        let mut cells = vec![Cell::Text(&id), Cell::Text(&letter.reason)];
        cells.extend(sensors::cells(format, sensor.as_ref()));
        cells.extend([
            Cell::Text(&letter.error),
            Cell::Count(u64::try_from(letter.source.partition).unwrap_or(0)),
            Cell::Count(u64::try_from(letter.source.offset).unwrap_or(0)),
            Cell::Moment(letter.timestamp),
            Cell::Count(letter.bytes().len() as u64),
            Cell::Boolean(standing.is_replayed),
            Cell::Text(&letter.topic),
        ]);
        records.write(&cells)
    })?;
    records.finish()?;
    let counts: Vec<_> =
        reasons.iter().map(|(reason, count)| format!("{} {reason}", HumanCount(*count))).collect();
    context.output.note(match counts.is_empty() {
        true => "no dead letters".to_owned(),
        false => counts.join(", "),
    });
    Ok(())
}

/// Letters of one reason and remedy.
#[derive(Default)]
struct Group {
    letters: u64,
    /// Those that the letters are about, as far as they say it.
    sensors: HashSet<Subject>,
    /// The last of them.
    example: String,
    sensor: Option<Subject>,
    error: String,
}

fn summary(letters: &LetterBox, filter: Filter, format: Format, context: &Context) -> anyhow::Result<()> {
    let mut headings = vec![
        Heading::left("reason"),
        Heading::right("letters"),
        Heading::right("sensors"),
        Heading::left("key"),
        Heading::left("remedy"),
        Heading::left("example"),
    ];
    headings.extend(sensor_headings(format));
    headings.push(Heading::left("error"));
    let mut sensors = Sensors::open(context);
    let mut told_apart = 0;
    let zone = filter.args.time.zone()?;
    let is_mapped = context.config.ingest.mapping.is_some();
    let mut groups: BTreeMap<(String, Advice), Group> = BTreeMap::new();
    each(letters, filter, &context.shutdown, |letter, standing| {
        if standing.is_replayed {
            return Ok(());
        }
        let advice = advice(&letter.reason, &letter.error, is_mapped);
        // Reasons are untrusted: whoever may write to the topic could make any number of them.
        if groups.len() < MAX_GROUPS || groups.contains_key(&(letter.reason.clone(), advice)) {
            let group = groups.entry((letter.reason.clone(), advice)).or_default();
            group.letters += 1;
            group.sensor = sensors.of(letter);
            if let Some(sensor) = group.sensor.as_ref().filter(|_| told_apart < MAX_SENSORS) {
                told_apart += usize::from(group.sensors.insert(sensor.clone()));
            }
            group.example = letter.id.to_string();
            group.error.clone_from(&letter.error);
        }
        Ok(())
    })?;
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| Reverse(group.letters));
    let mut records = context.output.records(format, zone, headings)?;
    for ((reason, advice), group) in &groups {
        let mut cells = vec![
            Cell::Text(reason),
            Cell::Count(group.letters),
            Cell::Count(group.sensors.len() as u64),
            Cell::Text(advice.key),
            Cell::Text(advice.remedy),
            Cell::Text(&group.example),
        ];
        cells.extend(sensors::cells(format, group.sensor.as_ref()));
        cells.push(Cell::Text(&group.error));
        records.write(&cells)?;
    }
    records.finish()?;
    context.output.note(match groups.is_empty() {
        true => "no dead letters".to_owned(),
        false => "`iotctl dead-letters replay` sends them again, once the cause is fixed".to_owned(),
    });
    Ok(())
}

fn show(letters: &LetterBox, id: Position, format: Format, context: &Context) -> anyhow::Result<()> {
    let found =
        letters.each(&|| context.shutdown.is_requested(), |letter, standing| match letter.id == id {
            true => ControlFlow::Break((letter, standing)),
            false => ControlFlow::Continue(()),
        })?;
    let Some((letter, standing)) = found else {
        bail!("no dead letter {id} (`iotctl dead-letters list` lists them)");
    };
    let sensor = Sensors::open(context).of(&letter);
    if format != Format::Table {
        return context.output.json(&document(&letter, standing, sensor.as_ref()));
    }
    let payload = match serde_json::from_slice::<Value>(letter.bytes()) {
        Ok(value) => serde_json::to_string_pretty(&value)?,
        Err(_) => visible_lines(&String::from_utf8_lossy(letter.bytes())).into_owned(),
    };
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "null".to_owned(),
    };
    let mut rows = vec![
        ("id", letter.id.to_string()),
        ("reason", letter.reason.clone()),
        ("error", letter.error.clone()),
        ("sensor", sensor.as_ref().map_or_else(|| "-".to_owned(), sensors::text)),
        ("topic", letter.topic.clone()),
        ("partition:offset", letter.source.to_string()),
        ("key", text(&letter.key)),
        ("bytes", letter.bytes().len().to_string()),
        ("replayed", standing.is_replayed.to_string()),
    ];
    rows.extend(letter.missing.iter().map(|missing| ("not whole", missing.to_string())));
    rows.extend(
        letter.headers.iter().map(|header| ("header", format!("{} = {}", header.name, text(&header.value)))),
    );
    context.output.print(format!("{}\n\n{payload}", table::report(rows)))
}

/// What replay may send.
struct Choice {
    all: bool,
    again: bool,
    yes: bool,
}

fn replay(letters: &LetterBox, filter: Filter, choice: Choice, context: &Context) -> anyhow::Result<()> {
    let Context { config, output, shutdown, .. } = context;
    let limits = decode_limits(&config.ingest);
    let mapping = support::mapping(&config.ingest, output)?;
    let lookup = Lookup::of(config, mapping.as_ref())?;
    let now = Utc::now().timestamp_millis();
    let mut replayer = if choice.yes { Some(Replayer::new(&config.kafka, mapping.is_some())?) } else { None };
    let (mut sent, mut refused, mut before, mut partial) = (0u64, 0u64, 0u64, 0u64);
    let line = output.live_line();
    let done = each(letters, filter, shutdown, |letter, standing| {
        if standing.is_replayed && !choice.again {
            before += 1;
        } else if letter.missing.is_some() {
            partial += 1;
        } else if !choice.all
            && !{
                if let (Some(lookup), Some(mapping)) = (&lookup, &mapping) {
                    lookup.prepare_blocking(mapping, &letter.record(), shutdown)?;
                }
                is_accepted(letter, mapping.as_ref(), &limits, now)
            }
        {
            refused += 1;
        } else {
            if let Some(replayer) = &mut replayer {
                replayer.send(letter)?;
            }
            sent += 1;
            line.set_message(grouped(sent, "dead letter"));
            line.tick();
        }
        Ok(())
    });
    // Sent letters are marked, however the run ended.
    let marked = replayer.as_mut().map_or(Ok(()), Replayer::finish);
    line.finish_and_clear();
    done?;
    marked?;
    let verb = if choice.yes { "sent to the topic again" } else { "would be sent (add --yes to send them)" };
    output.print(
        table::report([
            (verb, HumanCount(sent).to_string()),
            ("would be refused again", HumanCount(refused).to_string()),
            ("replayed before", HumanCount(before).to_string()),
            ("not whole, cannot be replayed", HumanCount(partial).to_string()),
        ])
        .to_string(),
    )
}

/// Whether every part of it would be stored.
fn is_accepted(letter: &StoredLetter, mapping: Option<&Mapping>, limits: &DecodeLimits, now: i64) -> bool {
    match mapping {
        Some(mapping) => {
            mapping.read(&letter.record(), limits, now).is_ok_and(|mapped| mapped.faults.is_empty())
        }
        None => decode::decode(letter.bytes(), limits, now).is_ok(),
    }
}

fn export(letters: &LetterBox, filter: Filter, path: Option<&Path>, context: &Context) -> anyhow::Result<()> {
    let mut writer: Box<dyn Write> = match path {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            Box::new(BufWriter::new(file.with_context(|| format!("cannot create {}", path.display()))?))
        }
        None => Box::new(context.output.stream()),
    };
    let mut count = 0u64;
    let mut sensors = Sensors::open(context);
    each(letters, filter, &context.shutdown, |letter, standing| {
        count += 1;
        let mut line = serde_json::to_vec(&document(letter, standing, sensors.of(letter).as_ref()))?;
        line.push(b'\n');
        closed(writer.write_all(&line))
    })?;
    closed(writer.flush())?;
    context.output.note(grouped(count, "dead letter"));
    Ok(())
}

fn document(letter: &StoredLetter, standing: Standing, sensor: Option<&Subject>) -> Value {
    let mut document = json!({
        "id": letter.id.to_string(),
        "reason": letter.reason,
        "error": letter.error,
        "topic": letter.topic,
        "partition": letter.source.partition,
        "offset": letter.source.offset,
        "timestamp": letter.timestamp,
        "replayed": standing.is_replayed,
    });
    if let Some(id) = sensor.and_then(|sensor| sensor.id) {
        document["iot_sensor_id"] = id.to_string().into();
    }
    if let Some(name) = sensor.and_then(|sensor| sensor.name.as_deref()) {
        document["sensor_name"] = name.into();
    }
    for (name, bytes) in [("key", letter.key.as_deref()), ("payload", letter.payload.as_deref())] {
        let Some(bytes) = bytes else {
            document[name] = Value::Null;
            continue;
        };
        set_bytes(&mut document, name, bytes);
    }
    if let Some(missing) = &letter.missing {
        document["missing"] = missing.to_string().into();
    }
    let headers = letter.headers.iter().map(|header| {
        let mut document = json!({ "name": header.name, "value": null });
        if let Some(value) = &header.value {
            set_bytes(&mut document, "value", value);
        }
        document
    });
    document["headers"] = headers.collect();
    document
}

/// As text, or as `NAME_hex` if it is not UTF-8.
fn set_bytes(document: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => document[name] = text.into(),
        Err(_) => document[format!("{name}_hex")] = hex(bytes).into(),
    }
}
