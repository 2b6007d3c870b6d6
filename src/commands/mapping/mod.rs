//! `iotctl mapping`: mapping files and presets, tried on samples without a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::config::{Config, Loaded, Sources};
use crate::error::UsageError;
use crate::mapping::infer::{self, Sample};
use crate::mapping::{Mapping, presets};
use crate::output::record::{Cell, Heading};
use crate::output::text::{one_or_many, plural};
use crate::output::{Format, Output};
use crate::reading::{Metric, Reading};
use crate::registry::Lookup;
use crate::shutdown::Shutdown;
use crate::time::{self, Zone};

mod samples;

use super::support::decode_limits;
use samples::{SamplesArgs, read};

/// Turn messages of other formats into readings, and try it on samples
///
/// `ingest`, `audit` and `dead-letters replay` take a mapping by --mapping or ingest.mapping. How to write one is in
/// docs/mapping.md; a preset is a good start.
#[derive(Debug, Subcommand)]
pub enum MappingCommand {
    /// List the presets that come with the program
    #[command(after_help = "Examples:
  iotctl mapping list")]
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print a preset, to begin a file of your own with
    #[command(after_help = "Examples:
  iotctl mapping show zigbee2mqtt > plant.toml")]
    Show {
        /// Its name
        #[arg(value_name = "PRESET")]
        name: String,
    },
    /// Print a mapping for messages like these: a preset that reads them all, or a draft
    ///
    /// Without --samples the newest messages of the topic are read; nothing is committed. A draft has comments that say what
    /// was seen, how often, and what was guessed. Check it with `iotctl mapping test`.
    #[command(after_help = "Examples:
  iotctl mapping infer --topic plant > plant.toml
  iotctl mapping infer --samples messages.ndjson > plant.toml

Samples are written as for `iotctl mapping test`.")]
    Infer {
        #[command(flatten)]
        samples: SamplesArgs,
    },
    /// Show the way of messages through a mapping, step by step
    #[command(after_help = "Examples:
  iotctl mapping explain plant.toml --samples messages.ndjson
  iotctl mapping explain zigbee2mqtt --topic z2m --count 1")]
    Explain {
        /// The mapping: a file, or the name of a preset
        #[arg(value_name = "FILE|PRESET")]
        mapping: String,
        #[command(flatten)]
        samples: SamplesArgs,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the readings that samples of messages become, and compare them with expected ones
    ///
    /// A sample is a line: an object with `value` (the payload; `value_base64` if it is binary) and, as far as the mapping
    /// needs them, `topic`, `key`, `headers` and `timestamp` (ms); or the payload alone. Without --samples the newest messages of
    /// the topic are read.
    #[command(after_help = "Examples:
  iotctl mapping test ttn-v3 --samples uplinks.ndjson
  iotctl mapping test plant.toml --samples messages.ndjson --expect readings.ndjson
  iotctl mapping test plant.toml --topic plant --count 20

Exit status:
  0  every message is mapped or skipped, and equals what was expected
  1  a message is refused, or a reading differs

An expected reading is a line with sensor, location, device_type, recorded_timestamp, metrics and states:
what --format ndjson prints.")]
    Test {
        /// The mapping: a file, or the name of a preset
        #[arg(value_name = "FILE|PRESET")]
        mapping: String,
        #[command(flatten)]
        samples: SamplesArgs,
        /// The readings that they are to become, one a line
        #[arg(long, value_name = "FILE")]
        expect: Option<PathBuf>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub async fn run(command: MappingCommand, sources: &Sources, output: &Output) -> anyhow::Result<()> {
    match command {
        MappingCommand::List { format } => list(format, output),
        MappingCommand::Show { name } => show(&name, output),
        MappingCommand::Infer { samples } => {
            let found = samples.read(sources, &Shutdown::on_signals()?).await?;
            let samples: Vec<Sample> = found.into_iter().map(|(_, sample)| sample).collect();
            let inferred = infer::infer(&samples, &decode_limits(&Config::default().ingest), time::now());
            output.print(inferred.map_err(anyhow::Error::msg)?.trim_end())
        }
        MappingCommand::Explain { mapping, samples, format } => {
            let mapping = Mapping::load(&mapping)?;
            let lookup = lookup(&mapping, sources)?;
            let shutdown = Shutdown::on_signals()?;
            let samples = samples.read(sources, &shutdown).await?;
            explain(&mapping, lookup.as_ref(), &samples, format, &shutdown, output).await
        }
        MappingCommand::Test { mapping, samples, expect, format } => {
            let mapping = Mapping::load(&mapping)?;
            let lookup = lookup(&mapping, sources)?;
            let shutdown = Shutdown::on_signals()?;
            let samples = samples.read(sources, &shutdown).await?;
            test(&mapping, lookup.as_ref(), &samples, expect.as_deref(), format, &shutdown, output).await
        }
    }
}

/// Nothing but a schema registry needs the configuration.
fn lookup(mapping: &Mapping, sources: &Sources) -> anyhow::Result<Option<Lookup>> {
    if !mapping.needs_registry() {
        return Ok(None);
    }
    let loaded = Loaded::load(sources).map_err(|error| UsageError::new(error.to_string()))?;
    Lookup::without_topics(&loaded.config, mapping)
}

async fn explain(
    mapping: &Mapping,
    lookup: Option<&Lookup>,
    samples: &[(String, Sample)],
    format: Format,
    shutdown: &Shutdown,
    output: &Output,
) -> anyhow::Result<()> {
    let limits = decode_limits(&Config::default().ingest);
    let mut records = output.records(
        format,
        Zone::Utc,
        vec![Heading::left("message"), Heading::left("step"), Heading::left("result")],
    )?;
    for (place, sample) in samples {
        if let Some(lookup) = lookup {
            lookup.prepare(mapping, &sample.record(), shutdown).await?;
        }
        for step in mapping.explain(&sample.record(), &limits, time::now()) {
            records.write(&[Cell::Text(place), Cell::Text(&step.key), Cell::Text(&step.text)])?;
        }
    }
    records.finish()?;
    Ok(())
}

fn list(format: Format, output: &Output) -> anyhow::Result<()> {
    let mut records = output.records(
        format,
        Zone::Utc,
        vec![Heading::left("preset"), Heading::left("about").titled("for")],
    )?;
    for preset in presets::ALL {
        records.write(&[Cell::Text(preset.name), Cell::Text(preset.about)])?;
    }
    records.finish()?;
    Ok(())
}

fn show(name: &str, output: &Output) -> anyhow::Result<()> {
    let preset = presets::find(name).with_context(|| {
        let names: Vec<_> = presets::ALL.iter().map(|preset| preset.name).collect();
        format!("no preset {name:?} (there are: {})", names.join(", "))
    })?;
    output.print(preset.text.trim_end())
}

/// Messages were refused, or readings differ; all of it has been printed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{refused} of {messages} messages refused, {} from what was expected",
    one_or_many(*different, "reading differs", "readings differ")
)]
struct Different {
    messages: usize,
    refused: usize,
    different: usize,
}

async fn test(
    mapping: &Mapping,
    lookup: Option<&Lookup>,
    samples: &[(String, Sample)],
    expect: Option<&Path>,
    format: Format,
    shutdown: &Shutdown,
    output: &Output,
) -> anyhow::Result<()> {
    let limits = decode_limits(&Config::default().ingest);
    let mut records = output.records(
        format,
        Zone::Utc,
        vec![
            Heading::right("message"),
            Heading::left("location"),
            Heading::left("device_type"),
            Heading::left("sensor"),
            Heading::left("recorded_timestamp"),
            Heading::left("metrics"),
            Heading::left("states"),
        ],
    )?;
    let (mut found, mut refusals, mut messages, mut skipped, mut replaced, mut empty) =
        (Vec::new(), Vec::new(), 0, 0, 0, 0);
    let mut refused = 0;
    for (place, sample) in samples {
        messages += 1;
        if let Some(lookup) = lookup {
            lookup.prepare(mapping, &sample.record(), shutdown).await?;
        }
        let mapped = match mapping.read(&sample.record(), &limits, time::now()) {
            Ok(mapped) => mapped,
            Err(rejection) => {
                refused += 1;
                refusals.push(format!("{place}: {rejection}"));
                continue;
            }
        };
        let has_nothing = mapped.readings.is_empty() && mapped.empty.is_empty() && mapped.faults.is_empty();
        skipped += usize::from(has_nothing);
        replaced += mapped.replaced;
        empty += mapped.empty.len();
        refused += usize::from(!mapped.faults.is_empty());
        refusals.extend(mapped.faults.iter().map(|fault| format!("{place}: {fault}")));
        for decoded in &mapped.readings {
            let shown = Shown::of(&decoded.reading);
            records.write(&[
                Cell::Count(messages as u64),
                Cell::Text(&shown.location),
                Cell::Text(&shown.device_type),
                Cell::Text(&shown.sensor),
                Cell::Moment(decoded.reading.recorded_at),
                Cell::Metrics(&shown.numbers()),
                Cell::States(&shown.texts()),
            ])?;
            found.push(shown);
        }
    }
    records.finish()?;
    output.note(format!(
        "{}, {}, {} skipped",
        plural(messages, "message"),
        plural(found.len(), "reading"),
        plural(skipped, "message")
    ));
    if empty > 0 {
        output.note(format!(
            "{} no value and {} not stored: all values are missing or null",
            one_or_many(empty, "reading has", "readings have"),
            if empty == 1 { "is" } else { "are" }
        ));
    }
    if replaced > 0 {
        output.note(format!(
            "{} replaced by other values with the same name, location, device type, sensor and time: if elements \
             differ in one of these, take it from each; if fields have the same name, rename or drop one",
            one_or_many(replaced, "value was", "values were")
        ));
    }
    let differences = match expect {
        Some(path) => differences(&found, &read(path)?)?,
        None => Vec::new(),
    };
    for problem in refusals.iter().chain(&differences) {
        output.print_remark(problem);
    }
    match refusals.is_empty() && differences.is_empty() {
        true => Ok(()),
        false => Err(Different { messages, refused, different: differences.len() }.into()),
    }
}

/// A reading as it is shown and compared.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    location: String,
    device_type: String,
    sensor: String,
    recorded_at: i64,
    metrics: BTreeMap<String, Value>,
    states: BTreeMap<String, Value>,
}

impl Shown {
    fn of(reading: &Reading<'_>) -> Self {
        let columns =
            Metric::COLUMNS.iter().filter_map(|metric| Some((metric.name(), reading.value(metric)?)));
        let mut metrics: BTreeMap<String, Value> =
            columns.map(|(name, value)| (name.to_owned(), number(value))).collect();
        if let Some(moves) = reading.motion_detected {
            metrics.insert("motion_detected".to_owned(), u8::from(moves).into());
        }
        metrics.extend(reading.other_metrics.iter().map(|(name, value)| (name.to_string(), number(*value))));
        Self {
            location: reading.location.to_string(),
            device_type: reading.device_type.to_string(),
            sensor: reading.sensor_name.as_deref().map_or_else(|| reading.sensor.to_string(), str::to_owned),
            recorded_at: reading.recorded_at,
            metrics,
            states: reading.states.iter().map(|(name, text)| (name.to_string(), (&**text).into())).collect(),
        }
    }

    fn expected(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let map = |name: &str| match &line[name] {
            Value::Object(members) => Some(members.clone().into_iter().collect()),
            Value::Null => Some(BTreeMap::new()),
            _ => None,
        };
        Some(Self {
            location: text("location")?,
            device_type: text("device_type")?,
            sensor: text("sensor")?,
            recorded_at: time::rfc3339(&text("recorded_timestamp")?)?,
            metrics: map("metrics")?,
            states: map("states")?,
        })
    }

    fn numbers(&self) -> Vec<(Arc<str>, f64)> {
        let metrics = self.metrics.iter();
        metrics.filter_map(|(name, value)| Some((name.as_str().into(), value.as_f64()?))).collect()
    }

    fn texts(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let states = self.states.iter();
        states.filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into()))).collect()
    }

    fn identity(&self) -> (&str, &str, &str, i64) {
        (&self.location, &self.device_type, &self.sensor, self.recorded_at)
    }

    fn equals(&self, other: &Self) -> bool {
        let same = |(left, right): (&Value, &Value)| match (left.as_f64(), right.as_f64()) {
            // Conversions of units are not exact.
            (Some(left), Some(right)) => (left - right).abs() <= 1e-4,
            _ => left == right,
        };
        self.states == other.states
            && self.metrics.keys().eq(other.metrics.keys())
            && self.metrics.values().zip(other.metrics.values()).all(same)
    }

    fn text(&self) -> String {
        let at = time::display(self.recorded_at);
        let values = json!({"metrics": self.metrics, "states": self.states});
        format!("{} {} {} {at} {values}", self.location, self.device_type, self.sensor)
    }
}

/// Whole numbers without a fraction, as people write them.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}

fn differences(found: &[Shown], expected: &str) -> anyhow::Result<Vec<String>> {
    let mut left: Vec<&Shown> = found.iter().collect();
    let mut differences = Vec::new();
    for (index, line) in expected.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let wanted = Shown::expected(line).with_context(|| {
            format!(
                "line {number} of the expected readings is none: an object with sensor, location, device_type, \
                 recorded_timestamp (RFC 3339), metrics and states"
            )
        })?;
        match left.iter().position(|it| it.identity() == wanted.identity()) {
            Some(at) => {
                let found = left.remove(at);
                if !found.equals(&wanted) {
                    differences.push(format!(
                        "expected line {number}: {}\n  but it is: {}",
                        wanted.text(),
                        found.text()
                    ));
                }
            }
            None => differences.push(format!("missing, expected line {number}: {}", wanted.text())),
        }
    }
    differences.extend(left.iter().map(|shown| format!("not expected: {}", shown.text())));
    Ok(differences)
}
