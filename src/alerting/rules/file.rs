//! The file of rules: TOML, checked on reading. Errors name the line and the rule.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::checks::{self, RawBand, RawPeers, RawRate, RawSchedule, RawSilent, RawStuck};
use super::{
    Band, Change, Condition, Expression, Online, Peers, Rate, RobustZ, Rule, Rules, Schedule, Severity,
    Silent, Stuck, Threshold,
};
use crate::alerting::tables::{self, Kind, TablesError};
use crate::anomalies::Sensitivity;
use crate::reading::Metric;

const RULES: Kind = Kind {
    name: "rule",
    // Each rule adds a series in Prometheus.
    most: 100,
    too_many: " (combine some, or split them over several consumer groups)",
    known_by: "alerts are known by it",
};
/// The possible window sizes of a robust z-score, in values.
const READINGS: std::ops::RangeInclusive<usize> = 8..=1_000;
const DEFAULT_READINGS: usize = 120;

/// The file before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    #[serde(default)]
    severity: Severity,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    runbook: Option<String>,
    #[serde(default)]
    schedule: RawSchedule,
    metric: Option<String>,
    expression: Option<String>,
    location: Option<String>,
    device_type: Option<String>,
    #[serde(rename = "for")]
    hold: Option<String>,
    max_gap: Option<String>,
    threshold: Option<RawThreshold>,
    #[serde(rename = "robust-z")]
    robust_z: Option<RawRobustZ>,
    change: Option<RawChange>,
    online: Option<RawOnline>,
    silent: Option<RawSilent>,
    rate: Option<RawRate>,
    stuck: Option<RawStuck>,
    band: Option<RawBand>,
    peers: Option<RawPeers>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawThreshold {
    above: Option<f64>,
    below: Option<f64>,
    #[serde(default)]
    hysteresis: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRobustZ {
    readings: Option<usize>,
    sensitivity: Option<f64>,
    #[serde(default)]
    min_deviation: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOnline {
    sensitivity: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChange {
    rise: Option<f64>,
    fall: Option<f64>,
    within: String,
}

impl Rules {
    /// Reads and checks the file of rules at `path`.
    pub fn read(path: &Path) -> Result<Self, TablesError> {
        Self::parse(&RULES.read(path)?)
    }

    /// Checks rules in TOML.
    pub fn parse(text: &str) -> Result<Self, TablesError> {
        RULES.parse(text, |file: RawRules| file.rule, |raw| &raw.name, Rule::check).map(Self)
    }
}

impl Rule {
    fn check(mut raw: RawRule) -> Result<Self, String> {
        for (key, value) in [
            ("metric", raw.metric.as_ref()),
            ("location", raw.location.as_ref()),
            ("device_type", raw.device_type.as_ref()),
            ("runbook", raw.runbook.as_ref()),
        ] {
            if value.is_some_and(String::is_empty) {
                return Err(format!("{key} must not be empty"));
            }
        }
        raw.labels.iter().try_for_each(|(name, value)| label(name, value))?;
        let condition = raw.condition()?;
        let hold = raw.hold.map_or(Ok(0), |hold| length("for", &hold))?;
        let max_gap = raw.max_gap.map(|gap| length("max_gap", &gap)).transpose()?;
        if max_gap == Some(0) {
            return Err("max_gap must be greater than 0".to_owned());
        }
        if max_gap.is_some() && hold == 0 {
            return Err("max_gap has no effect without for (add for, or remove max_gap)".to_owned());
        }
        match (&condition, &raw.metric) {
            (Condition::Online(_), _) if hold > 0 => {
                return Err("for has no effect with online: an alarm is one reading (remove for)".to_owned());
            }
            (Condition::Silent(_), _) if hold > 0 => {
                return Err("for has no effect with silent (set silent.after)".to_owned());
            }
            (Condition::Silent(_), Some(_)) => {
                return Err(
                    "metric has no effect with silent: any reading ends a silence (remove it)".to_owned()
                );
            }
            (Condition::Silent(_), None) if raw.expression.is_some() => {
                return Err("expression has no effect with silent (remove it)".to_owned());
            }
            (Condition::Silent(_), None) | (_, Some(_)) => {}
            (_, None) => {
                return Err("metric is missing (with expression, it is the name of the result)".to_owned());
            }
        }
        Ok(Self {
            name: raw.name,
            severity: raw.severity,
            labels: raw.labels,
            runbook: raw.runbook,
            metric: raw.metric.as_deref().map(Metric::named),
            expression: raw.expression.as_deref().map(Expression::parse).transpose()?,
            location: raw.location,
            device_type: raw.device_type,
            hold,
            max_gap,
            schedule: Schedule::check(&raw.schedule)?,
            condition,
        })
    }
}

impl RawRule {
    /// Takes the one condition.
    fn condition(&mut self) -> Result<Condition, String> {
        let mut found = Vec::new();
        found.extend(self.threshold.take().map(|raw| Threshold::check(&raw).map(Condition::Threshold)));
        found.extend(self.robust_z.take().map(|raw| RobustZ::check(&raw).map(Condition::RobustZ)));
        found.extend(self.change.take().map(|raw| Change::check(&raw).map(Condition::Change)));
        found.extend(self.online.take().map(|raw| {
            let sensitivity = sensitivity("online", raw.sensitivity);
            sensitivity.map(|sensitivity| Condition::Online(Online { sensitivity }))
        }));
        found.extend(self.silent.take().map(|raw| Silent::check(&raw).map(Condition::Silent)));
        found.extend(self.rate.take().map(|raw| Rate::check(&raw).map(Condition::Rate)));
        found.extend(self.stuck.take().map(|raw| Stuck::check(&raw).map(Condition::Stuck)));
        found.extend(self.band.take().map(|raw| Band::check(&raw).map(Condition::Band)));
        found.extend(self.peers.take().map(|raw| Peers::check(&raw).map(Condition::Peers)));
        match (found.pop(), found.is_empty()) {
            (Some(condition), true) => condition,
            _ => Err(format!("exactly one of {CONDITIONS} is required")),
        }
    }
}

const CONDITIONS: &str = "threshold, robust-z, change, online, silent, rate, stuck, band and peers";

/// Labels become those of Alertmanager, beside the ones that every alert has.
fn label(name: &str, value: &str) -> Result<(), String> {
    const TAKEN: [&str; 7] =
        ["alertname", "severity", "location", "device_type", "iot_sensor_id", "sensor_name", "metric"];
    let mut bytes = name.bytes();
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_plain =
        bytes.next().is_some_and(is_first) && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_plain || name.len() > 64 {
        return Err(format!(
            "labels: {name:?} must be 1 to 64 letters, digits or _, and not begin with a digit"
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!("labels: every alert has {name:?} already (use another name)"));
    }
    if value.is_empty() || value.len() > 256 {
        return Err(format!("labels: the value of {name:?} must have 1 to 256 bytes"));
    }
    Ok(())
}

impl Threshold {
    fn check(raw: &RawThreshold) -> Result<Self, String> {
        checks::limits("threshold", raw.above, raw.below, raw.hysteresis)
    }
}

impl RobustZ {
    fn check(raw: &RawRobustZ) -> Result<Self, String> {
        let readings = raw.readings.unwrap_or(DEFAULT_READINGS);
        if !READINGS.contains(&readings) {
            return Err(format!(
                "robust-z.readings is {readings}, but must be from {} to {}",
                READINGS.start(),
                READINGS.end()
            ));
        }
        let sensitivity = sensitivity("robust-z", raw.sensitivity)?;
        if !(raw.min_deviation.is_finite() && raw.min_deviation >= 0.0) {
            return Err("robust-z.min_deviation must be 0 or greater".to_owned());
        }
        Ok(Self { readings, sensitivity, min_deviation: raw.min_deviation })
    }
}

impl Change {
    fn check(raw: &RawChange) -> Result<Self, String> {
        if raw.rise.is_none() && raw.fall.is_none() {
            return Err("change needs rise or fall".to_owned());
        }
        for (key, value) in [("rise", raw.rise), ("fall", raw.fall)] {
            if value.is_some_and(|value| !(value.is_finite() && value > 0.0)) {
                return Err(format!("change.{key} must be greater than 0"));
            }
        }
        let within = length("change.within", &raw.within)?;
        if within == 0 {
            return Err("change.within must be greater than 0".to_owned());
        }
        Ok(Self { rise: raw.rise, fall: raw.fall, within })
    }
}

fn sensitivity(condition: &str, value: Option<f64>) -> Result<Sensitivity, String> {
    let Some(value) = value else { return Ok(Sensitivity::DEFAULT) };
    Sensitivity::new(value).ok_or_else(|| {
        format!("{condition}.sensitivity must be greater than 0 and at most 1 (0.5 is the default)")
    })
}

/// Reads a duration, in milliseconds.
pub(super) fn length(key: &str, text: &str) -> Result<i64, String> {
    tables::length(key, text).map(|length| i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        Rules::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_with_each_kind_of_rule_is_read() {
        let rules = Rules::parse(
            r#"
            [[rule]]
            name = "hot"
            severity = "critical"
            metric = "temperature"
            location = "plant-1"
            for = "5m"
            threshold = { above = 28, below = 2.5, hysteresis = 0.5 }

            [[rule]]
            name = "odd"
            metric = "humidity"
            robust-z = {}

            [[rule]]
            name = "jump"
            metric = "co2"
            [rule.change]
            rise = 400.0
            within = "10m"

            [[rule]]
            name = "strange"
            metric = "co2"
            online = { sensitivity = 0.4 }
            "#,
        )
        .unwrap()
        .into_vec();
        let online = Online { sensitivity: Sensitivity::new(0.4).unwrap() };
        assert_eq!(rules[3].condition, Condition::Online(online));
        assert_eq!(rules[0].severity, Severity::Critical);
        assert_eq!(rules[0].hold, 300_000);
        let threshold = Threshold { above: Some(28.0), below: Some(2.5), hysteresis: 0.5 };
        assert_eq!(rules[0].condition, Condition::Threshold(threshold));
        let usual = RobustZ { readings: 120, sensitivity: Sensitivity::DEFAULT, min_deviation: 0.0 };
        assert_eq!(rules[1].condition, Condition::RobustZ(usual));
        assert_eq!(rules[1].severity, Severity::Warning);
        let change = Change { rise: Some(400.0), fall: None, within: 600_000 };
        assert_eq!(rules[2].condition, Condition::Change(change));
        assert_eq!(rules[2].metric, Some(Metric::Other("co2".into())));
    }

    #[test]
    fn an_error_names_the_line_and_the_rule() {
        let rule =
            |rest: &str| format!("# rules\n[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\n{rest}");
        for (rest, problem) in [
            ("", "line 2, rule \"hot\": exactly one of threshold, robust-z, change, online, silent,"),
            ("threshold = {}", "line 2, rule \"hot\": threshold needs above or below"),
            ("threshold = { above = 1, hysteresis = -1 }", "threshold.hysteresis must not be negative"),
            ("threshold = { above = nan }", "threshold.above must be a finite number"),
            ("threshold = { above = 1, below = 3 }", "no value could end an alert"),
            ("threshold = { over = 1 }", "line 5: unknown field `over`"),
            ("robust-z = { readings = 5 }", "robust-z.readings is 5"),
            ("robust-z = { sensitivity = 2 }", "robust-z.sensitivity must be greater than 0"),
            ("online = { sensitivity = 0 }", "online.sensitivity must be greater than 0"),
            ("for = \"5m\"\nonline = {}", "for has no effect with online"),
            ("online = {}\nrobust-z = {}", "exactly one of threshold"),
            ("change = { within = \"5m\" }", "change needs rise or fall"),
            ("change = { rise = 0, within = \"5m\" }", "change.rise must be greater than 0"),
            ("change = { rise = 1, within = \"0s\" }", "change.within must be greater than 0"),
            ("for = \"soon\"\nthreshold = { above = 1 }", "for is \"soon\", which is not a duration"),
            ("for = \"1y\"\nthreshold = { above = 1 }", "for is longer than 30d"),
            ("max_gap = \"5m\"\nthreshold = { above = 1 }", "max_gap has no effect without for"),
            ("for = \"5m\"\nmax_gap = \"0s\"\nthreshold = { above = 1 }", "max_gap must be greater than 0"),
            ("robust-z = { min_deviation = -1 }", "robust-z.min_deviation must be 0 or greater"),
            ("location = \"\"\nthreshold = { above = 1 }", "location must not be empty"),
            ("silent = { after = \"5m\" }", "metric has no effect with silent"),
            ("rate = { above = 1 }", "line 5: missing field `per`"),
            ("rate = { per = \"min\" }", "rate needs above or below"),
            ("rate = { above = 1, per = \"min\", max_gap = \"0s\" }", "rate.max_gap must be greater than 0"),
            ("stuck = { tolerance = 1 }", "stuck needs either readings or time"),
            ("stuck = { readings = 1 }", "stuck.readings must be at least 2"),
            ("band = { hours = [] }", "band.hours needs at least one"),
            (
                "band = { hours = [{ at = \"noon\", above = 1 }] }",
                "band.hours.at: \"noon\" is not a time of the week",
            ),
            ("band = { zone = \"Mars\", hours = [{ at = \"mon\", above = 1 }] }", "band.zone: "),
            ("peers = { above = 1, min_sensors = 1 }", "peers.min_sensors must be at least 2"),
            (
                "labels = { severity = \"x\" }\nthreshold = { above = 1 }",
                "every alert has \"severity\" already",
            ),
            ("labels = { \"a-b\" = \"x\" }\nthreshold = { above = 1 }", "labels: \"a-b\" must be"),
            ("expression = \".a -\"\nthreshold = { above = 1 }", "expression: not a jq program"),
            ("schedule = { quiet = [\"x\"] }\nthreshold = { above = 1 }", "schedule.quiet: \"x\" is not"),
            ("severity = \"bad\"", "line 5: unknown variant `bad`"),
        ] {
            let refused = refused(&rule(rest));
            assert!(refused.contains(problem), "{rest}: {refused}");
        }
        let twice = rule("threshold = { above = 1 }").repeat(2);
        assert!(refused(&twice).contains("another rule has this name"), "{}", refused(&twice));
        assert!(refused("[[rule]]\nname = \"a b\"\nmetric = \"t\"").contains("a name must have 1 to 64"));
        assert_eq!(refused(""), "the file has no [[rule]]");
        assert!(refused("[[rules]]").starts_with("line 1: unknown field `rules`"));
        assert!(
            refused(&"[[rule]]\nname=\"a\"\nmetric=\"t\"\n".repeat(101))
                .starts_with("the file has 101 rules")
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            let _ = Rules::parse(&text);
        }
    }
}
