//! What several verbs do around their work: stopping it, progress, checks of names, tables and remarks.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use tokio::time::timeout;
use uuid::Uuid;

use super::Context;
use super::destination;
use super::flags::{ListenArgs, PlaceArgs, PlotArgs, SelectionArgs, known_metrics};
use crate::alerting::Rules;
use crate::alerting::delivery::Receivers;
use crate::config::{IngestConfig, KafkaConfig};
use crate::error::{Interrupted, UsageError};
use crate::http::Access;
use crate::mapping::Mapping;
use crate::metrics::{Health, server};
use crate::observe::status::Servers;
use crate::observe::status::kafka::age as short_age;
use crate::output::record::{Cell, Heading};
use crate::output::table::{self, Table};
use crate::output::{Format, Output, text};
use crate::plot::files::{self, Picture};
use crate::plot::terminal::{self, Size};
use crate::plot::{MOST_SERIES, Series, Target};
use crate::reading::{DecodeLimits, Metric};
use crate::servers::local::ServerStatus;
use crate::shutdown::Shutdown;

/// The remark where the tables are empty.
pub const NOTHING_STORED: &str = "nothing is stored yet: run `iotctl simulate` and `iotctl ingest`";

/// The future's result, or [`Interrupted`] as soon as the user stops the command.
pub async fn until_stopped<T, E: Into<anyhow::Error>>(
    shutdown: &Shutdown,
    future: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    tokio::select! {
        result = future => result.map_err(Into::into),
        () = shutdown.requested() => Err(Interrupted.into()),
    }
}

/// Runs `work` under a bar over its parts (how many, and how many are done). The bar appears after a second.
pub async fn with_bar<T>(
    output: &Output,
    parts: impl Fn() -> (u64, u64),
    work: impl Future<Output = T>,
) -> T {
    const QUIET_FOR: Duration = Duration::from_secs(1);
    const REDRAW: Duration = Duration::from_millis(100);
    let mut work = pin!(work);
    if let Ok(result) = timeout(QUIET_FOR, &mut work).await {
        return result;
    }
    let bar = output.bar(0, "buckets");
    loop {
        let (length, done) = parts();
        bar.set_length(length);
        bar.set_position(done);
        if let Ok(result) = timeout(REDRAW, &mut work).await {
            bar.finish_and_clear();
            return result;
        }
    }
}

/// Runs a model on a thread of its own, so that a signal to stop is handled meanwhile.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the model ended with a panic")
}

/// What a model estimates, to five significant digits: further ones would pretend a precision it does not have.
pub fn rounded(value: f64) -> f64 {
    rounded_within(value, f64::INFINITY)
}

/// As [`rounded`], with as many digits as an interval of this width needs: 123456789 ± 100 is not 123460000.
pub fn rounded_within(value: f64, width: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let size = |value: f64| value.abs().log10().floor() as i32;
    let needed = if width.is_finite() && width > 0.0 { size(value) - size(width) + 2 } else { 0 };
    // As text, because a product and a quotient of powers of ten would leave digits of their own.
    let digits = needed.clamp(4, 17) as usize;
    format!("{value:.digits$e}").parse().unwrap_or(value)
}

/// A name that no sensor has sent is a mistake; one that has no value in this range is an empty answer. Where nothing
/// is stored, no name is known to be wrong.
pub fn known_or_refused(
    metric: &Metric,
    names: &BTreeSet<Arc<str>>,
    groups: usize,
) -> Result<(), UsageError> {
    match metric {
        Metric::Other(name) if groups > 0 && !names.contains(name.as_str()) => Err(UsageError::new(format!(
            "no reading here has a metric {name} (known metrics: {})",
            known_metrics(names.iter().map(|name| &**name))
        ))),
        _ => Ok(()),
    }
}

/// The mapping of the configuration, if there is one, with a note that names it.
///
/// # Errors
/// What is wrong with the file.
pub fn mapping(config: &IngestConfig, output: &Output) -> Result<Option<Mapping>, UsageError> {
    let Some(place) = &config.mapping else { return Ok(None) };
    let mapping = Mapping::load(place)?;
    let sources: Vec<_> = mapping.sources().collect();
    output.note(format!("mapping {place} ({}), sources: {}", mapping.fingerprint, sources.join(", ")));
    tracing::info!(mapping = place, fingerprint = mapping.fingerprint, "messages are mapped");
    Ok(Some(mapping))
}

/// What verbs of SQL say in a build without it.
#[cfg(not(feature = "sql"))]
pub fn without_sql() -> UsageError {
    UsageError::new("this iotctl was built without SQL (build it with `cargo build --features sql`)")
}

/// The rules of alerts in a file.
///
/// # Errors
/// What is wrong with the file.
pub fn rules(path: &Path) -> Result<Rules, UsageError> {
    Rules::read(path).map_err(|error| {
        UsageError::new(format!(
            "{}: {error} (`iotctl ingest --help` shows how to write a rule)",
            path.display()
        ))
    })
}

/// The receivers of a file.
///
/// # Errors
/// What is wrong with the file.
pub fn receivers(path: &Path) -> Result<Receivers, UsageError> {
    Receivers::read(path).map_err(|error| {
        UsageError::new(format!(
            "{}: {error} (`iotctl alerts deliver --help` shows how to write a receiver)",
            path.display()
        ))
    })
}

/// The consumer group that delivers alerts: `group`, or one beside that of `ingest`.
pub fn delivery_config(kafka: &KafkaConfig, group: Option<String>) -> KafkaConfig {
    KafkaConfig { group: group.unwrap_or_else(|| format!("{}-alerts", kafka.group)), ..kafka.clone() }
}

/// The rules that a message is checked by, from the configuration.
pub fn decode_limits(config: &IngestConfig) -> DecodeLimits {
    DecodeLimits {
        max_message_bytes: usize::try_from(config.max_message_bytes.as_u64()).unwrap_or(usize::MAX),
        max_future_skew: config.max_future_skew,
        is_any_time: false,
    }
}

/// Serves metrics, health and readiness beside a command's work, and says where; `remark` ends that line.
pub async fn serve_metrics(
    address: SocketAddr,
    listen: ListenArgs,
    registry: prometheus::Registry,
    health: &Health,
    remark: &str,
    context: &Context,
) -> anyhow::Result<()> {
    let access = listen.access(&context.config.http)?;
    let shutdown = context.shutdown.clone();
    let bound = server::serve(address, access.clone(), registry, health.clone(), shutdown).await?;
    context.output.note(format!("metrics on {}://{bound}/metrics{remark}", access.scheme()));
    warn_if_exposed(&access, bound, "the metrics", &context.output);
    Ok(())
}

/// A remark where an HTTP listener can be reached from other machines as `--insecure` allows. `what` is what they can read
/// there.
pub fn warn_if_exposed(access: &Access, bound: SocketAddr, what: &str, output: &Output) {
    if access.is_exposed(bound) {
        let missing = match (access.has_tls(), access.login().is_some()) {
            (false, true) => "without encryption",
            (true, false) => "without a login",
            _ => "without encryption or login",
        };
        output.note(format!(
            "note: --insecure: other machines that reach that address can read {what} {missing}"
        ));
    }
}

/// The columns of a sensor: one for people, with its name or the id where it has none; both for programs.
pub fn sensor_headings(format: Format) -> Vec<Heading> {
    match format {
        Format::Table => vec![Heading::left("iot_sensor_id").titled("sensor")],
        _ => vec![Heading::left("iot_sensor_id"), Heading::left("sensor_name")],
    }
}

/// The cells under [`sensor_headings`].
pub fn sensor_cells(format: Format, sensor: Uuid, name: Option<&str>) -> impl Iterator<Item = Cell<'_>> {
    let cells = match format {
        Format::Table => [Some(Cell::Sensor(sensor, name)), None],
        _ => [Some(Cell::Uuid(sensor)), Some(name.map_or(Cell::Missing, Cell::Text))],
    };
    cells.into_iter().flatten()
}

/// Sensors whose names are looked up at once.
pub const NAMES_AT_ONCE: usize = 5_000;

/// The time since a reading: for people as `3h 12m`, for programs in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Age {
    Text(String),
    Seconds(u64),
}

impl Age {
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Age::Text(text) => Cell::Text(text),
            Age::Seconds(seconds) => Cell::Count(*seconds),
        }
    }
}

/// The age of a reading; both moments in milliseconds since the epoch. One that is ahead of our clock is 0 s old.
pub fn age(now: i64, at: i64, format: Format) -> Age {
    let seconds = u64::try_from(now.saturating_sub(at) / 1000).unwrap_or(0);
    match format {
        Format::Table => Age::Text(text::length(seconds)),
        Format::Json | Format::Ndjson | Format::Csv => Age::Seconds(seconds),
    }
}

/// A size in bytes, in binary units.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// The configured servers, with the flags applied.
pub fn servers(place: &PlaceArgs, context: &Context) -> Servers {
    let mut config = context.config.clone();
    config.local = place.configure(&config.local);
    if let Some(local) = destination::resolve(&mut config, &context.given) {
        context.output.note(local.to_string());
    }
    let is_set = !config.schema.datacenters.is_empty() || context.given.contains("schema.replication_factor");
    Servers::new(config, is_set)
}

/// The processes of `iotctl up`.
pub fn server_table(servers: &[ServerStatus]) -> Table {
    let headings = ["server", "address", "state", "pid", "memory", "up", "log"];
    let mut table = table::table(&headings, &[3, 4, 5]).paths(6);
    for server in servers {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.add_row([
            server.server.clone(),
            server.address.to_string(),
            server.state.to_string(),
            or_dash(server.pid.map(|pid| pid.to_string())),
            or_dash(server.resident_bytes.map(size)),
            or_dash(server.uptime_seconds.map(|seconds| short_age(seconds as f64))),
            server.log.display().to_string(),
        ]);
    }
    table
}

/// Of what a plot is: a sensor, a group, or the groups that a selection leaves.
pub fn plot_subject(selection: &SelectionArgs) -> String {
    let SelectionArgs { group, sensor } = selection;
    match (sensor, &group.location, &group.device_type) {
        (Some(sensor), ..) => format!("sensor {sensor}"),
        (None, Some(location), Some(device_type)) => format!("{device_type} at {location}"),
        (None, Some(location), None) => format!("all sensors at {location}"),
        (None, None, Some(device_type)) => format!("{device_type} at all locations"),
        (None, None, None) => "all sensors".to_owned(),
    }
}

/// Keeps as many lines as can be told apart, with a remark about the rest.
pub fn keep_distinguishable(series: &mut Vec<Series>, sensors: usize, output: &Output) {
    if series.len() > MOST_SERIES {
        output.note(format!("drawing {MOST_SERIES} of {sensors} sensors (--sensor ID draws one)"));
        series.truncate(MOST_SERIES);
    }
}

/// The usage error for a plot of something that is not values over time.
pub fn plot_refused(remedy: &str) -> anyhow::Error {
    UsageError::new(format!("--plot draws values over time ({remedy})")).into()
}

impl PlotArgs {
    /// Draws where `--plot` says.
    pub fn show(&self, picture: &Picture, output: &Output) -> anyhow::Result<()> {
        match &self.plot {
            None => Ok(()),
            Some(Target::Terminal) => {
                let text = match picture {
                    Picture::Chart(chart) => {
                        terminal::chart(chart, Size::of_terminal(output.stdout_is_terminal), output.color)
                    }
                    Picture::HeatMap(map) => terminal::heat_map(map, output.color),
                };
                output.print(text.unwrap_or_else(|| "there is nothing to draw".to_owned()).trim_end())
            }
            Some(Target::File(path)) => {
                files::write(picture, path)?;
                output.note(format!("drawn to {}", path.display()));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short_for_people_and_exact_for_programs() {
        let shown = |seconds: i64| match age(seconds * 1000, 0, Format::Table) {
            Age::Text(text) => text,
            Age::Seconds(_) => unreachable!("tables are for people"),
        };
        assert_eq!(shown(12), "12s");
        assert_eq!(shown(200), "3m 20s");
        assert_eq!(shown(5 * 3600 + 3 * 60 + 59), "5h 3m");
        assert_eq!(shown(12 * 86_400 + 4 * 3600 + 61), "12 d 4 h");
        assert_eq!(age(12_999, 0, Format::Ndjson), Age::Seconds(12));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_negative_age() {
        assert_eq!(age(0, 5_000, Format::Json), Age::Seconds(0));
        assert_eq!(age(0, i64::MIN, Format::Json), Age::Seconds(i64::MAX as u64 / 1000));
    }

    #[test]
    fn a_metric_that_nobody_sent_is_refused_with_the_known_ones() {
        let names: BTreeSet<Arc<str>> = ["rpm".into()].into();
        let error = known_or_refused(&Metric::named("rmp"), &names, 1).unwrap_err().to_string();
        assert!(error.contains("temperature") && error.contains("rpm"), "{error}");
        assert!(known_or_refused(&Metric::named("rpm"), &names, 1).is_ok());
        assert!(known_or_refused(&Metric::named("pressure"), &names, 1).is_ok());
    }

    #[test]
    fn numbers_of_models_are_rounded_by_their_size() {
        for (value, text) in
            [(1013.25678, "1013.3"), (-0.000_123_456, "-0.00012346"), (21.0, "21"), (0.0, "0")]
        {
            assert_eq!(rounded(value).to_string(), text);
        }
        for (value, width, text) in [
            (123_456_789.3, 210.0, "123456789"),
            (1_013.256_78, 0.02, "1013.2568"),
            (1_013.256_78, 20.0, "1013.3"),
            (21.304, 0.0, "21.304"),
            (1_002_339_699_912_345.0, 14_000_000.0, "1002339699900000"),
            (1e300, 1e-300, "1e300"),
        ] {
            assert_eq!(
                crate::output::number::exact(rounded_within(value, width)),
                text,
                "{value} in {width}"
            );
        }
    }
}
