//! Flags that several verbs share, and the parsers of their values. What a flag means is written here once.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use uuid::Uuid;

use crate::analytics::Column;
use crate::analytics::groups::{self, Selection};
use crate::analytics::tags::{Chosen, TagFilter};
use crate::cassandra::Session;
use crate::config::{HttpConfig, LocalConfig};
use crate::error::UsageError;
use crate::http::Access;
use crate::mapping::columns::ColumnFlags;
use crate::output::text;
use crate::plot::Target;
use crate::reading::{self, Group, Metric, tags};
use crate::store::sensors::{self, SensorNames};
use crate::time::{TimeRange, Zone};

/// Which groups.
#[derive(Debug, Clone, Default, Args)]
pub struct GroupArgs {
    /// Only this location
    #[arg(long, value_name = "NAME")]
    pub location: Option<String>,
    /// Only this device type
    #[arg(long, value_name = "NAME")]
    pub device_type: Option<String>,
}

impl GroupArgs {
    pub fn selection(&self) -> Selection {
        Selection { location: self.location.clone(), device_type: self.device_type.clone() }
    }
}

/// Which columns of a file are which fields of a reading, where no mapping file says it.
#[derive(Debug, Clone, Default, Args)]
pub struct ColumnArgs {
    /// Field of each column, such as timestamp=recorded_timestamp,value=temperature
    ///
    /// Columns that are named like a field need none. Any other name is that of a metric. Other columns are not stored.
    #[arg(long, value_name = "COLUMN=FIELD", value_delimiter = ',', conflicts_with = "mapping")]
    pub map: Vec<String>,
    /// location, device_type or iot_sensor_id of all rows that have none
    #[arg(long, value_name = "FIELD=VALUE", value_delimiter = ',', conflicts_with = "mapping")]
    pub set: Vec<String>,
    /// Unit in which a metric was recorded, such as temperature=fahrenheit
    #[arg(long, value_name = "METRIC=UNIT", value_delimiter = ',', conflicts_with = "mapping")]
    pub unit: Vec<String>,
}

impl ColumnArgs {
    pub fn flags(&self) -> Result<ColumnFlags, UsageError> {
        ColumnFlags::parse(&self.map, &self.set, &self.unit)
    }
}

/// Which groups, or which sensor.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// Only this sensor, by its id or its name
    #[arg(long, value_name = "ID|NAME", value_parser = sensor)]
    pub sensor: Option<SensorArg>,
}

/// A sensor as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorArg {
    /// The id of a name is that of the messages' name until [`SelectionArgs::find_sensor`].
    pub id: Uuid,
    /// The name that was asked for; after [`SelectionArgs::find_sensor`] the name that it is shown by.
    pub name: Option<String>,
}

impl fmt::Display for SensorArg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => formatter.write_str(&text::visible(name)),
            None => self.id.fmt(formatter),
        }
    }
}

impl SelectionArgs {
    /// The sensor, once [`Self::find_sensor`] has found it.
    pub fn sensor_id(&self) -> Option<Uuid> {
        self.sensor.as_ref().map(|sensor| sensor.id)
    }

    /// The names of sensors, with that of the one that was asked for.
    pub fn names(&self) -> SensorNames {
        let names = SensorNames::default();
        match &self.sensor {
            Some(sensor) => names.with(sensor.id, sensor.name.as_deref()),
            None => names,
        }
    }

    /// Looks the sensor up in the registry: its id by the name that was asked for, and the name that it is shown by.
    pub async fn find_sensor(&mut self, session: &Session) -> anyhow::Result<()> {
        let Some(asked) = &mut self.sensor else { return Ok(()) };
        if let Some(name) = &asked.name {
            asked.id = groups::sensor_called(session, name).await?;
        }
        let known = sensors::registered_as(session, asked.id).await?;
        asked.name = sensors::shown_name(&known).map(str::to_owned);
        Ok(())
    }

    /// The matching groups, or those that the sensor has sent readings in.
    pub async fn groups(&self, session: &Session) -> anyhow::Result<Vec<Arc<Group>>> {
        let selection = self.group.selection();
        match self.sensor_id() {
            Some(sensor) => selection.resolve_sensor(session, sensor).await,
            None => selection.resolve(session).await,
        }
    }

    /// Like [`Self::groups`], for verbs that need one group unless a sensor is named.
    pub async fn one_group(&self, session: &Session) -> anyhow::Result<Vec<Arc<Group>>> {
        match &self.sensor {
            Some(_) => self.groups(session).await,
            None => Ok(vec![self.group.selection().exactly()?]),
        }
    }
}

/// Only sensors with these tags.
#[derive(Debug, Clone, Default, Args)]
pub struct TagArgs {
    /// Only sensors with this tag, such as room=A12; of several, all must hold, and of one key twice, either
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tags::condition)]
    pub tags: Vec<(String, String)>,
}

impl TagArgs {
    /// The sensors of `groups` with the tags, and their groups; every sensor without --tag.
    pub async fn choose(
        &self,
        session: &Session,
        groups: Vec<Arc<Group>>,
    ) -> anyhow::Result<(Vec<Arc<Group>>, Option<Arc<Chosen>>)> {
        if self.tags.is_empty() {
            return Ok((groups, None));
        }
        let chosen = TagFilter::of(&self.tags).choose(session, &groups).await?;
        Ok((chosen.groups(), Some(Arc::new(chosen))))
    }
}

/// The zone that times are read and printed in.
#[derive(Debug, Clone, Default, Args)]
pub struct ZoneArgs {
    /// Hours, days and times of this machine's time zone instead of UTC
    #[arg(long)]
    pub local: bool,
    /// Hours, days and times of this time zone, such as Europe/Berlin
    #[arg(long, value_name = "NAME", conflicts_with = "local", value_parser = Zone::named)]
    pub time_zone: Option<Zone>,
}

impl ZoneArgs {
    /// # Errors
    /// `--local` on a machine whose zone is unknown.
    pub fn zone(&self) -> Result<Zone, UsageError> {
        match self.time_zone {
            Some(zone) => Ok(zone),
            None if self.local => Zone::of_machine().map_err(|error| UsageError::new(error.to_string())),
            None => Ok(Zone::Utc),
        }
    }
}

/// Which time, and how it is read and printed.
#[derive(Debug, Clone, Default, Args)]
pub struct TimeArgs {
    /// Start of the range (inclusive)
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// End of the range (exclusive)
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Only the last 30m, 24h, 7d, …
    #[arg(long, value_name = "LENGTH", conflicts_with_all = ["from", "to"])]
    pub last: Option<String>,
    #[command(flatten)]
    pub zone: ZoneArgs,
}

impl TimeArgs {
    /// `now` is in milliseconds since the epoch.
    pub fn range(&self, now: i64) -> Result<TimeRange, UsageError> {
        let zone = self.zone()?;
        TimeRange::parse(self.from.as_deref(), self.to.as_deref(), self.last.as_deref(), zone, now)
            .map_err(|error| UsageError::new(error.to_string()))
    }

    /// # Errors
    /// `--local` on a machine whose zone is unknown.
    pub fn zone(&self) -> Result<Zone, UsageError> {
        self.zone.zone()
    }
}

/// Which servers of this machine, by the folder of their data.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// Directory of data, logs and pid files [default: local.data_dir]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl PlaceArgs {
    /// The configuration with the flag applied.
    pub fn configure(&self, config: &LocalConfig) -> LocalConfig {
        let data_dir = self.data.clone().or_else(|| config.data_dir.clone());
        LocalConfig { data_dir, ..config.clone() }
    }
}

/// A picture instead of rows.
#[derive(Debug, Clone, Default, Args)]
pub struct PlotArgs {
    /// Draw a plot: in the terminal, or to FILE.svg, FILE.png or FILE.html
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub plot: Option<Target>,
}

/// A sensor by its id or its name.
pub fn sensor(text: &str) -> Result<SensorArg, String> {
    match reading::is_name(text) {
        true => {
            let name = Uuid::try_parse(text).is_err().then(|| text.to_owned());
            Ok(SensorArg { id: reading::sensor::id(text), name })
        }
        false => Err("a name has 1 to 256 bytes and no control characters".to_owned()),
    }
}

/// The metric by its name; a column that holds no number is refused before a server is asked.
pub fn metric(name: &str) -> Result<Metric, UsageError> {
    match Column::named(name.trim()) {
        Column::Metric(Metric::Other(name)) if name.is_empty() => {
            Err(UsageError::new(format!("--metric is empty (known: {})", known_metrics([]))))
        }
        Column::Metric(metric) => Ok(metric),
        other => Err(UsageError::new(format!(
            "{} holds no number (known metrics: {})",
            other.name(),
            known_metrics([])
        ))),
    }
}

/// The columns and the `names` of other metrics, the first forty of them, as messages list them.
pub fn known_metrics<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
    let mut names = names.into_iter();
    let columns = Metric::COLUMNS.iter().map(Metric::name);
    let mut known: Vec<&str> = columns.chain(names.by_ref().take(MOST)).collect();
    if names.next().is_some() {
        known.push("…");
    }
    known.join(", ")
}

/// A limit of a metric, as the table's columns hold values.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("not a number that a 32-bit float can hold".to_owned()),
    }
}

/// A length of time from a second to ten years, in milliseconds.
pub fn length(text: &str) -> Result<i64, String> {
    const MOST_MILLIS: i64 = 3_660 * 86_400_000;
    let length =
        humantime::parse_duration(text.trim()).map_err(|_| "not a length of time (write 10m, 24h or 7d)")?;
    let millis =
        i64::try_from(length.as_millis()).ok().filter(|millis| (1_000..=MOST_MILLIS).contains(millis));
    millis.ok_or_else(|| "not between 1s and 10 years".to_owned())
}

/// How a listener may be reached.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListenArgs {
    /// Serve at an address that other machines can reach without TLS or a login too
    ///
    /// Otherwise such an address needs http.cert_file, http.key_file and http.tokens_file.
    #[arg(long)]
    pub insecure: bool,
}

impl ListenArgs {
    /// # Errors
    /// A file of the settings cannot be used.
    pub fn access(self, config: &HttpConfig) -> Result<Access, UsageError> {
        Access::of(&HttpConfig { insecure: self.insecure || config.insecure, ..config.clone() })
    }
}

/// Where to listen: `9464`, `:9464` or `127.0.0.1:9464`. A port alone is on loopback.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse().map_err(|_| "write it like 9464, 127.0.0.1:9464 or [::1]:9464".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_numbers_are_no_metrics() {
        for name in ["motion_detected", "location", "other_metrics", "recorded_timestamp", ""] {
            assert!(metric(name).unwrap_err().to_string().contains("temperature"), "{name}");
        }
    }

    #[test]
    fn a_list_of_metrics_ends_after_forty_names() {
        let names: Vec<String> = (0..41).map(|number| format!("m{number}")).collect();
        let all = known_metrics(names.iter().map(String::as_str));
        assert!(all.ends_with("m39, …"), "{all}");
        assert!(known_metrics(names.iter().take(40).map(String::as_str)).ends_with("m39"));
    }

    #[test]
    fn a_server_listens_on_loopback_unless_another_address_is_given() {
        for alone in ["9464", ":9464"] {
            assert_eq!(listen_address(alone).unwrap(), "127.0.0.1:9464".parse().unwrap());
        }
        assert_eq!(listen_address("0.0.0.0:1").unwrap(), "0.0.0.0:1".parse().unwrap());
        for bad in ["", "localhost:9464", "99999", "::9464"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
