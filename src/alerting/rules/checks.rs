//! The conditions of a rule as the file has them, and their checks.

use serde::Deserialize;

use super::file::length;
use super::schedule::{Schedule, Weekly, stretch};
use super::{Band, Lasts, Peers, Per, Rate, Silent, Stuck, Threshold};
use crate::time::{DAY, HOUR, Zone};

const DEFAULT_FORGET_AFTER: i64 = 7 * DAY;
const MIN_SENSORS: usize = 3;
const DEFAULT_WITHIN: i64 = HOUR / 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSilent {
    after: String,
    forget_after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    above: Option<f64>,
    below: Option<f64>,
    #[serde(default)]
    hysteresis: f64,
    per: Per,
    max_gap: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStuck {
    readings: Option<u64>,
    time: Option<String>,
    #[serde(default)]
    tolerance: f64,
    max_gap: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBand {
    zone: Option<String>,
    #[serde(default)]
    hysteresis: f64,
    hours: Vec<RawHours>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    at: String,
    above: Option<f64>,
    below: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeers {
    above: Option<f64>,
    below: Option<f64>,
    #[serde(default)]
    hysteresis: f64,
    min_sensors: Option<usize>,
    within: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    zone: Option<String>,
    #[serde(default)]
    quiet: Vec<String>,
    #[serde(default)]
    maintenance: Vec<RawStretch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStretch {
    from: String,
    to: String,
}

impl Silent {
    pub(super) fn check(raw: &RawSilent) -> Result<Self, String> {
        let after = positive("silent.after", &raw.after)?;
        let forget_after = raw.forget_after.as_deref().map(|text| length("silent.forget_after", text));
        let forget_after = forget_after.transpose()?.unwrap_or(DEFAULT_FORGET_AFTER.max(after * 2));
        if forget_after <= after {
            return Err("silent.forget_after must be longer than silent.after".to_owned());
        }
        Ok(Self { after, forget_after })
    }
}

impl Rate {
    pub(super) fn check(raw: &RawRate) -> Result<Self, String> {
        let limits = limits("rate", raw.above, raw.below, raw.hysteresis)?;
        let max_gap = raw.max_gap.as_deref().map_or(Ok(HOUR), |text| positive("rate.max_gap", text))?;
        Ok(Self { limits, per: raw.per, max_gap })
    }
}

impl Stuck {
    pub(super) fn check(raw: &RawStuck) -> Result<Self, String> {
        let lasts = match (raw.readings, raw.time.as_deref()) {
            (Some(readings), None) if readings >= 2 => Lasts::Readings(readings),
            (Some(_), None) => return Err("stuck.readings must be at least 2".to_owned()),
            (None, Some(time)) => Lasts::Time(positive("stuck.time", time)?),
            _ => return Err("stuck needs either readings or time".to_owned()),
        };
        if !(raw.tolerance.is_finite() && raw.tolerance >= 0.0) {
            return Err("stuck.tolerance must be 0 or greater".to_owned());
        }
        let max_gap = raw.max_gap.as_deref().map_or(Ok(i64::MAX), |text| positive("stuck.max_gap", text))?;
        Ok(Self { lasts, tolerance: raw.tolerance, max_gap })
    }
}

impl Band {
    pub(super) fn check(raw: &RawBand) -> Result<Self, String> {
        if raw.hours.is_empty() {
            return Err("band.hours needs at least one { at, above, below }".to_owned());
        }
        let hours = raw.hours.iter().map(|raw_hours| {
            let RawHours { at, above, below } = raw_hours;
            let weekly = Weekly::parse(at).map_err(|problem| format!("band.hours.at: {problem}"))?;
            Ok((weekly, limits("band", *above, *below, raw.hysteresis)?))
        });
        let hours = hours.collect::<Result<_, String>>()?;
        Ok(Self { zone: zone("band.zone", raw.zone.as_deref())?, hours })
    }
}

impl Peers {
    pub(super) fn check(raw: &RawPeers) -> Result<Self, String> {
        let limits = limits("peers", raw.above, raw.below, raw.hysteresis)?;
        let min_sensors = raw.min_sensors.unwrap_or(MIN_SENSORS);
        if min_sensors < 2 {
            return Err("peers.min_sensors must be at least 2".to_owned());
        }
        let within =
            raw.within.as_deref().map_or(Ok(DEFAULT_WITHIN), |text| positive("peers.within", text))?;
        Ok(Self { limits, min_sensors, within })
    }
}

impl Schedule {
    pub(super) fn check(raw: &RawSchedule) -> Result<Self, String> {
        let zone = zone("schedule.zone", raw.zone.as_deref())?;
        let quiet = raw
            .quiet
            .iter()
            .map(|text| Weekly::parse(text).map_err(|problem| format!("schedule.quiet: {problem}")));
        let maintenance = raw.maintenance.iter().map(|raw| stretch(&raw.from, &raw.to, zone));
        Ok(Self {
            zone,
            quiet: quiet.collect::<Result<_, _>>()?,
            maintenance: maintenance.collect::<Result<_, _>>()?,
        })
    }
}

/// Limits with the space between them that ends an episode.
pub(super) fn limits(
    condition: &str,
    above: Option<f64>,
    below: Option<f64>,
    hysteresis: f64,
) -> Result<Threshold, String> {
    if above.is_none() && below.is_none() {
        return Err(format!("{condition} needs above or below"));
    }
    for (key, value) in [("above", above), ("below", below), ("hysteresis", Some(hysteresis))] {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(format!("{condition}.{key} must be a finite number"));
        }
    }
    if hysteresis < 0.0 {
        return Err(format!("{condition}.hysteresis must not be negative"));
    }
    if let (Some(above), Some(below)) = (above, below)
        && below + hysteresis > above - hysteresis
    {
        return Err(format!(
            "no value could end an alert (lower {condition}.hysteresis, or set below to less than above)"
        ));
    }
    Ok(Threshold { above, below, hysteresis })
}

fn positive(key: &str, text: &str) -> Result<i64, String> {
    match length(key, text)? {
        0 => Err(format!("{key} must be greater than 0")),
        length => Ok(length),
    }
}

fn zone(key: &str, name: Option<&str>) -> Result<Zone, String> {
    name.map_or(Ok(Zone::Utc), |name| Zone::named(name).map_err(|error| format!("{key}: {error}")))
}
