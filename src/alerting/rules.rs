//! The file of rules, and what may stand in it.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::window;
use crate::anomalies::Sensitivity;
use crate::reading::{Metric, Reading};

/// Each rule is a series of its own in Prometheus.
const MOST_RULES: usize = 100;
const MOST_BYTES: u64 = 1 << 20;
const LONGEST_NAME: usize = 64;
const LONGEST_TIME: Duration = Duration::from_secs(30 * 86_400);
/// Values in the window of a robust z-score.
const READINGS: std::ops::RangeInclusive<usize> = 8..=1_000;
const USUAL_READINGS: usize = 120;

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("cannot read the rules: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("line {line}, the rule {name:?}: {problem}")]
    Rule { line: usize, name: String, problem: String },
    #[error("there is no [[rule]] in it")]
    Empty,
    #[error(
        "it has {0} rules, and more than {MOST_RULES} are not meant to be (join some, or use several groups)"
    )]
    TooMany(usize),
}

/// The rules of a file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules(Vec<Rule>);

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: String,
    pub severity: Severity,
    pub metric: Metric,
    /// The readings it is about; all where absent.
    pub location: Option<String>,
    pub device_type: Option<String>,
    /// How long its condition has to hold before it fires, in milliseconds.
    pub hold: i64,
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    #[default]
    Warning,
    Critical,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Threshold(Threshold),
    RobustZ(RobustZ),
    Change(Change),
}

/// A value beyond a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub above: Option<f64>,
    pub below: Option<f64>,
    /// How far back within its limits a value has to be before the episode is over.
    pub hysteresis: f64,
}

/// A value far from the sensor's own median.
#[derive(Debug, Clone, PartialEq)]
pub struct RobustZ {
    pub readings: usize,
    pub sensitivity: Sensitivity,
}

/// A value that rose or fell too much within a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub rise: Option<f64>,
    pub fall: Option<f64>,
    /// In milliseconds.
    pub within: i64,
}

/// The file as it is written.
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
    metric: String,
    location: Option<String>,
    device_type: Option<String>,
    #[serde(rename = "for")]
    hold: Option<String>,
    threshold: Option<RawThreshold>,
    #[serde(rename = "robust-z")]
    robust_z: Option<RawRobustZ>,
    change: Option<RawChange>,
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
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChange {
    rise: Option<f64>,
    fall: Option<f64>,
    within: String,
}

impl Rules {
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let mut text = String::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST_BYTES {
            let message = format!("the file is larger than {}", bytesize::ByteSize(MOST_BYTES));
            return Err(RulesError::Syntax { line: 1, message });
        }
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let line = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let raw: RawRules = toml::from_str(text).map_err(|error| RulesError::Syntax {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        match raw.rule.len() {
            0 => return Err(RulesError::Empty),
            count if count > MOST_RULES => return Err(RulesError::TooMany(count)),
            _ => {}
        }
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(raw.rule.len());
        for raw in raw.rule {
            let (line, raw) = (line(raw.span().start), raw.into_inner());
            let name = raw.name.clone();
            let is_new = names.insert(name.clone());
            let rule = match is_new {
                true => Rule::check(raw),
                false => Err("another rule has this name (their alerts would not be told apart)".to_owned()),
            };
            rules.push(rule.map_err(|problem| RulesError::Rule { line, name, problem })?);
        }
        Ok(Self(rules))
    }

    pub fn into_vec(self) -> Vec<Rule> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    fn check(raw: RawRule) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if raw.name.is_empty() || raw.name.len() > LONGEST_NAME || !raw.name.bytes().all(is_plain) {
            return Err(format!("a name has 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`"));
        }
        for (key, value) in [
            ("metric", Some(&raw.metric)),
            ("location", raw.location.as_ref()),
            ("device_type", raw.device_type.as_ref()),
        ] {
            if value.is_some_and(String::is_empty) {
                return Err(format!("{key} is empty"));
            }
        }
        let condition = match (raw.threshold, raw.robust_z, raw.change) {
            (Some(raw), None, None) => Condition::Threshold(Threshold::check(&raw)?),
            (None, Some(raw), None) => Condition::RobustZ(RobustZ::check(&raw)?),
            (None, None, Some(raw)) => Condition::Change(Change::check(&raw)?),
            _ => return Err("it needs exactly one of threshold, robust-z and change".to_owned()),
        };
        Ok(Self {
            name: raw.name,
            severity: raw.severity,
            metric: Metric::named(&raw.metric),
            location: raw.location,
            device_type: raw.device_type,
            hold: raw.hold.map_or(Ok(0), |hold| length("for", &hold))?,
            condition,
        })
    }

    /// The value that the rule is about, where the reading is one of its group and has it.
    pub(super) fn value(&self, reading: &Reading<'_>) -> Option<f32> {
        let is_ours = self.location.as_ref().is_none_or(|location| *location == reading.location)
            && self.device_type.as_ref().is_none_or(|device_type| *device_type == reading.device_type);
        if is_ours { reading.value(&self.metric) } else { None }
    }

    /// Why it fires, for people.
    pub(super) fn explain(&self, expected: Option<f64>, score: Option<f64>) -> String {
        let expected = expected.unwrap_or_default();
        let what = match &self.condition {
            Condition::Threshold(Threshold { above, .. }) if *above == Some(expected) => {
                format!("above {expected}")
            }
            Condition::Threshold(_) => format!("below {expected}"),
            Condition::RobustZ(_) => {
                format!("{:.1} robust deviations from the median {expected:.2}", score.unwrap_or_default())
            }
            Condition::Change(change) => {
                let within = humantime::format_duration(millis(change.within));
                format!("it was {expected} within {within}")
            }
        };
        match self.hold {
            0 => what,
            hold => format!("{what}, for {} or longer", humantime::format_duration(millis(hold))),
        }
    }
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Condition {
    /// About how many bytes it remembers of a sensor.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Threshold(_) => 0,
            Self::RobustZ(rule) => rule.readings * 2 * size_of::<f32>(),
            Self::Change(_) => window::PARTS as usize * size_of::<window::Part>(),
        }
    }
}

impl Threshold {
    fn check(raw: &RawThreshold) -> Result<Self, String> {
        if raw.above.is_none() && raw.below.is_none() {
            return Err("threshold needs above or below".to_owned());
        }
        for (key, value) in [("above", raw.above), ("below", raw.below), ("hysteresis", Some(raw.hysteresis))]
        {
            if value.is_some_and(|value| !value.is_finite()) {
                return Err(format!("threshold.{key} is no finite number"));
            }
        }
        if raw.hysteresis < 0.0 {
            return Err("threshold.hysteresis is below 0".to_owned());
        }
        if let (Some(above), Some(below)) = (raw.above, raw.below)
            && below + raw.hysteresis > above - raw.hysteresis
        {
            return Err(
                "no value would be in order again (lower threshold.hysteresis, or let below be below above)"
                    .to_owned(),
            );
        }
        Ok(Self { above: raw.above, below: raw.below, hysteresis: raw.hysteresis })
    }
}

impl RobustZ {
    fn check(raw: &RawRobustZ) -> Result<Self, String> {
        let readings = raw.readings.unwrap_or(USUAL_READINGS);
        if !READINGS.contains(&readings) {
            return Err(format!(
                "robust-z.readings is {readings}, and a window has {} to {} readings",
                READINGS.start(),
                READINGS.end()
            ));
        }
        let sensitivity = match raw.sensitivity {
            None => Sensitivity::DEFAULT,
            Some(value) => Sensitivity::new(value)
                .ok_or("robust-z.sensitivity lies above 0 and not above 1 (0.5 is six robust deviations)")?,
        };
        Ok(Self { readings, sensitivity })
    }
}

impl Change {
    fn check(raw: &RawChange) -> Result<Self, String> {
        if raw.rise.is_none() && raw.fall.is_none() {
            return Err("change needs rise or fall".to_owned());
        }
        for (key, value) in [("rise", raw.rise), ("fall", raw.fall)] {
            if value.is_some_and(|value| !(value.is_finite() && value > 0.0)) {
                return Err(format!("change.{key} is no number above 0"));
            }
        }
        let within = length("change.within", &raw.within)?;
        if within == 0 {
            return Err("change.within is no time at all".to_owned());
        }
        Ok(Self { rise: raw.rise, fall: raw.fall, within })
    }
}

/// A time as people write it, in milliseconds.
fn length(key: &str, text: &str) -> Result<i64, String> {
    match humantime::parse_duration(text) {
        Ok(length) if length <= LONGEST_TIME => Ok(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)),
        Ok(_) => Err(format!("{key} is longer than {}", humantime::format_duration(LONGEST_TIME))),
        Err(_) => Err(format!("{key} is {text:?}, and a time is written like 90s, 5m or 1h 30m")),
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
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
            "#,
        )
        .unwrap()
        .into_vec();
        assert_eq!(rules[0].severity, Severity::Critical);
        assert_eq!(rules[0].hold, 300_000);
        let threshold = Threshold { above: Some(28.0), below: Some(2.5), hysteresis: 0.5 };
        assert_eq!(rules[0].condition, Condition::Threshold(threshold));
        let usual = RobustZ { readings: 120, sensitivity: Sensitivity::DEFAULT };
        assert_eq!(rules[1].condition, Condition::RobustZ(usual));
        assert_eq!(rules[1].severity, Severity::Warning);
        let change = Change { rise: Some(400.0), fall: None, within: 600_000 };
        assert_eq!(rules[2].condition, Condition::Change(change));
        assert_eq!(rules[2].metric, Metric::Other("co2".into()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_rule() {
        let rule =
            |rest: &str| format!("# rules\n[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\n{rest}");
        for (rest, problem) in [
            ("", "line 2, the rule \"hot\": it needs exactly one of threshold, robust-z and change"),
            ("threshold = {}", "line 2, the rule \"hot\": threshold needs above or below"),
            ("threshold = { above = 1, hysteresis = -1 }", "threshold.hysteresis is below 0"),
            ("threshold = { above = nan }", "threshold.above is no finite number"),
            ("threshold = { above = 1, below = 3 }", "no value would be in order again"),
            ("threshold = { over = 1 }", "line 5: unknown field `over`"),
            ("robust-z = { readings = 5 }", "robust-z.readings is 5"),
            ("robust-z = { sensitivity = 2 }", "robust-z.sensitivity lies above 0"),
            ("change = { within = \"5m\" }", "change needs rise or fall"),
            ("change = { rise = 0, within = \"5m\" }", "change.rise is no number above 0"),
            ("change = { rise = 1, within = \"0s\" }", "change.within is no time at all"),
            ("for = \"soon\"\nthreshold = { above = 1 }", "for is \"soon\", and a time is written like"),
            ("for = \"1y\"\nthreshold = { above = 1 }", "for is longer than 30days"),
            ("location = \"\"\nthreshold = { above = 1 }", "location is empty"),
            ("severity = \"bad\"", "line 5: unknown variant `bad`"),
        ] {
            let refused = refused(&rule(rest));
            assert!(refused.contains(problem), "{rest}: {refused}");
        }
        let twice = rule("threshold = { above = 1 }").repeat(2);
        assert!(refused(&twice).contains("another rule has this name"), "{}", refused(&twice));
        assert!(refused("[[rule]]\nname = \"a b\"\nmetric = \"t\"").contains("a name has 1 to 64"));
        assert_eq!(refused(""), "there is no [[rule]] in it");
        assert!(refused("[[rules]]").starts_with("line 1: unknown field `rules`"));
        assert!(refused(&"[[rule]]\nname=\"a\"\nmetric=\"t\"\n".repeat(101)).starts_with("it has 101 rules"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            let _ = Rules::parse(&text);
        }
    }
}
