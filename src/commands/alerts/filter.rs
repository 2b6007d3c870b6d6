//! Which alerts a verb is about, and what is said where none of them matches.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Registry;
use crate::alerting::Alert;
use crate::alerting::alert::State;
use crate::alerting::rules::Severity;
use crate::commands::Context;
use crate::commands::flags::SelectionArgs;
use crate::output::text::{one_or_many, plural, visible};
use crate::time::{self, TimeRange};

/// The remark where the topic is empty.
const NO_ALERTS: &str = "no alerts (`iotctl ingest --detect RULES.toml` writes them)";
/// Names in a remark.
const MOST: usize = 5;

/// Which alerts are asked for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) rule: Option<String>,
    pub(super) severity: Option<Severity>,
    pub(super) state: Option<State>,
    pub(super) location: Option<String>,
    pub(super) device_type: Option<String>,
    pub(super) sensor: Option<Wanted>,
    pub(super) range: Option<TimeRange>,
}

/// A sensor that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: Uuid,
    /// A name that the registry does not have: then the alerts' own names decide.
    pub(super) unregistered: Option<String>,
    /// As it was asked for.
    asked: String,
}

impl Wanted {
    /// Finds the sensor of --sensor in the registry, by its name there or that of its messages.
    pub(super) async fn find(
        selection: &mut SelectionArgs,
        context: &Context,
    ) -> anyhow::Result<(Option<Self>, Registry)> {
        let asked = selection.sensor.clone();
        let registry = Registry::open(selection, context).await?;
        let wanted = asked.map(|asked| Self {
            id: selection.sensor_id().unwrap_or(asked.id),
            unregistered: asked.name.clone().filter(|_| !registry.has_found),
            asked: asked.to_string(),
        });
        Ok((wanted, registry))
    }

    fn is_of(&self, alert: &Alert) -> bool {
        self.id == alert.iot_sensor_id
            || (self.unregistered.is_some() && self.unregistered == alert.sensor_name)
    }
}

impl Filter {
    /// That of the flags that all verbs have.
    pub(super) fn new(rule: Option<String>, selection: &SelectionArgs, sensor: Option<Wanted>) -> Self {
        let group = selection.group.clone();
        Self { rule, location: group.location, device_type: group.device_type, sensor, ..Self::default() }
    }

    pub(super) fn matches(&self, alert: &Alert) -> bool {
        self.conditions(alert).iter().all(|(_, matches)| *matches)
    }

    /// The conditions that are given, as flags, and whether the alert meets each.
    fn conditions(&self, alert: &Alert) -> Vec<(Flag, bool)> {
        let at = alert.recorded_timestamp.timestamp_millis();
        let conditions = [
            (Flag::Rule, self.rule.as_ref().map(|rule| *rule == alert.rule)),
            (Flag::Location, self.location.as_ref().map(|location| *location == alert.location)),
            (Flag::DeviceType, self.device_type.as_ref().map(|it| *it == alert.device_type)),
            (Flag::Sensor, self.sensor.as_ref().map(|sensor| sensor.is_of(alert))),
            (Flag::Severity, self.severity.map(|severity| severity == alert.severity)),
            (Flag::State, self.state.map(|state| state == alert.state)),
            (Flag::Time, self.range.filter(|range| !range.is_everything()).map(|range| range.contains(at))),
        ];
        conditions.into_iter().filter_map(|(flag, matches)| Some((flag, matches?))).collect()
    }

    /// "--rule hot, --sensor th-1".
    fn text(&self) -> String {
        let texts = [
            self.rule.as_ref().map(|rule| format!("--rule {}", visible(rule))),
            self.location.as_ref().map(|location| format!("--location {}", visible(location))),
            self.device_type.as_ref().map(|device_type| format!("--device-type {}", visible(device_type))),
            self.sensor.as_ref().map(|sensor| format!("--sensor {}", sensor.asked)),
            self.severity.map(|severity| format!("--severity {}", severity.name())),
            self.state.map(|state| format!("--state {}", state.name())),
            self.range.filter(|range| !range.is_everything()).map(|_| "the range of time".to_owned()),
        ];
        texts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Rule,
    Location,
    DeviceType,
    Sensor,
    Severity,
    State,
    Time,
}

/// What the topic has, for the remark on a filter that nothing passes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    alerts: u64,
    newest: Option<i64>,
    rules: BTreeSet<String>,
    locations: BTreeSet<String>,
    device_types: BTreeSet<String>,
    /// Conditions that some alert meets.
    met: Vec<Flag>,
}

impl Seen {
    pub(super) fn note(&mut self, alert: &Alert, filter: &Filter) {
        self.alerts += 1;
        self.newest = self.newest.max(Some(alert.recorded_timestamp.timestamp_millis()));
        let names = [
            (&mut self.rules, &alert.rule),
            (&mut self.locations, &alert.location),
            (&mut self.device_types, &alert.device_type),
        ];
        for (known, name) in names {
            if !known.contains(name) {
                known.insert(name.clone());
            }
        }
        for (flag, matches) in filter.conditions(alert) {
            if matches && !self.met.contains(&flag) {
                self.met.push(flag);
            }
        }
    }

    /// Why nothing is listed.
    pub(super) fn remark(&self, filter: &Filter) -> String {
        if self.alerts == 0 {
            return NO_ALERTS.to_owned();
        }
        let unknown = self.unknown(filter);
        if !unknown.is_empty() {
            return unknown.join("; ");
        }
        format!("no alert matches all of {} ({} left out)", filter.text(), plural(self.alerts, "alert"))
    }

    /// What of the filter no alert of the topic meets.
    pub(super) fn unknown(&self, filter: &Filter) -> Vec<String> {
        if self.alerts == 0 {
            return Vec::new();
        }
        let is_unmet = |flag| !self.met.contains(&flag);
        let named = |what: &str, flag, wanted: &Option<String>, known| {
            let wanted = wanted.as_ref().filter(|_| is_unmet(flag))?;
            let most_alike = most_alike(wanted, known);
            Some(format!("the topic has no alert of the {what} {wanted:?} (it has those of {most_alike})"))
        };
        let sensor = filter.sensor.as_ref().filter(|_| is_unmet(Flag::Sensor));
        let severity = filter.severity.filter(|_| is_unmet(Flag::Severity));
        let range = filter.range.filter(|range| !range.is_everything() && is_unmet(Flag::Time));
        [
            named("rule", Flag::Rule, &filter.rule, &self.rules),
            named("location", Flag::Location, &filter.location, &self.locations),
            named("device type", Flag::DeviceType, &filter.device_type, &self.device_types),
            sensor.map(|sensor| {
                format!(
                    "the topic has no alert of the sensor {} (`iotctl sensors` lists sensors)",
                    sensor.asked
                )
            }),
            severity.map(|severity| format!("the topic has no alert of the severity {}", severity.name())),
            range.map(|_| {
                let alerts = one_or_many(self.alerts, "alert is", "alerts are");
                let newest = self.newest.map(time::display).unwrap_or_default();
                format!("no alerts in this range of time ({alerts} outside of it, the newest at {newest})")
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Names like the one that is not known: "hot, cold and 3 others".
pub(super) fn most_alike(wanted: &str, known: &BTreeSet<String>) -> String {
    let mut alike: Vec<&String> = known.iter().collect();
    alike.sort_by_key(|name| strsim::damerau_levenshtein(name, wanted));
    some(alike.iter().map(|name| visible(name).into_owned()), known.len())
}

/// The first few of them, and how many more there are.
fn some(names: impl Iterator<Item = String>, all: usize) -> String {
    let shown: Vec<_> = names.take(MOST).collect();
    match all - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {}", shown.join(", "), one_or_many(more, "other", "others")),
    }
}

/// What fires, for the remark that nothing of it matches: "firing: hot of th-1 at plant-1, …".
fn firing_text(firing: &[&Alert], name: impl Fn(&Alert) -> String) -> String {
    if firing.is_empty() {
        return "nothing is firing".to_owned();
    }
    let of = |alert: &&Alert| {
        let (rule, location) = (visible(&alert.rule), visible(&alert.location));
        format!("{rule} of {} at {location}", visible(&name(alert)))
    };
    format!("firing: {}", some(firing.iter().map(of), firing.len()))
}

/// Why nothing that fires is listed.
pub(super) fn nothing_fires(filter: &Filter, seen: &Seen, firing: &[&Alert]) -> String {
    if seen.alerts == 0 || firing.is_empty() {
        return [vec!["nothing is firing".to_owned()], seen.unknown(filter)].concat().join("; ");
    }
    format!("nothing is firing that matches {}; {}", filter.text(), firing_text(firing, own_name))
}

/// The name of the alert's messages, else the id.
pub(super) fn own_name(alert: &Alert) -> String {
    alert.sensor_name.clone().unwrap_or_else(|| alert.iot_sensor_id.to_string())
}

/// The error where no alert that fires is to be acknowledged.
pub(super) fn nothing_to_acknowledge(
    id: Option<Uuid>,
    filter: &Filter,
    firing: &[&Alert],
    name: impl Fn(&Alert) -> String,
) -> String {
    let wanted = match id {
        Some(id) => [format!("the id {id}"), filter.text()].join(", ").trim_end_matches(", ").to_owned(),
        None => filter.text(),
    };
    format!("no alert that is firing matches {wanted}; {}", firing_text(firing, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::alert::example;

    fn wanted(id: u128, name: Option<&str>) -> Wanted {
        let asked = name.map_or_else(|| Uuid::from_u128(id).to_string(), str::to_owned);
        Wanted { id: Uuid::from_u128(id), unregistered: name.map(str::to_owned), asked }
    }

    fn by_rule(rule: &str) -> Filter {
        Filter { rule: Some(rule.to_owned()), ..Filter::default() }
    }

    fn seen(filter: &Filter) -> Seen {
        let mut seen = Seen::default();
        for (rule, sensor) in [("hot", 1), ("hot", 2), ("damp", 1)] {
            seen.note(&example(rule, sensor, State::Firing, 60), filter);
        }
        seen
    }

    #[test]
    fn a_sensor_is_known_by_its_id_and_by_the_name_that_only_its_alerts_have() {
        let mut alert = example("hot", 7, State::Firing, 1);
        alert.sensor_name = Some("o1".to_owned());
        let of = |sensor| Filter { sensor: Some(sensor), ..Filter::default() };
        assert!(of(wanted(7, None)).matches(&alert));
        assert!(of(wanted(9, Some("o1"))).matches(&alert));
        assert!(!of(wanted(9, Some("o2"))).matches(&alert));
        // A name of the registry is that of one sensor.
        assert!(!of(wanted(9, None)).matches(&alert));
    }

    #[test]
    fn a_name_that_no_alert_has_is_remarked_on_with_those_that_have_some() {
        let filter = by_rule("hto");
        assert_eq!(
            seen(&filter).remark(&filter),
            "the topic has no alert of the rule \"hto\" (it has those of hot, damp)"
        );
        let filter = Filter { sensor: Some(wanted(3, Some("nosuch"))), ..Filter::default() };
        assert!(seen(&filter).remark(&filter).starts_with("the topic has no alert of the sensor nosuch"));
        let filter = Filter { range: Some(TimeRange { from: 0, to: 1 }), ..Filter::default() };
        assert_eq!(
            seen(&filter).remark(&filter),
            "no alerts in this range of time (3 alerts are outside of it, the newest at 1970-01-01T00:01:00.000Z)"
        );
        assert!(Seen::default().remark(&filter).contains("ingest --detect"));
    }

    #[test]
    fn conditions_that_no_alert_meets_together_are_named() {
        let filter = Filter { sensor: Some(wanted(2, None)), ..by_rule("damp") };
        assert_eq!(
            seen(&filter).remark(&filter),
            "no alert matches all of --rule damp, --sensor 00000000-0000-0000-0000-000000000002 (3 alerts left out)"
        );
    }

    #[test]
    fn what_fires_is_listed_where_nothing_of_it_matches() {
        let alert = example("damp", 1, State::Firing, 1);
        let filter = by_rule("hot");
        let shown = format!("firing: damp of {} at {}", own_name(&alert), alert.location);
        assert_eq!(
            nothing_fires(&filter, &seen(&filter), &[&alert]),
            format!("nothing is firing that matches --rule hot; {shown}")
        );
        let error = nothing_to_acknowledge(None, &filter, &[&alert], own_name);
        assert_eq!(error, format!("no alert that is firing matches --rule hot; {shown}"));
        let filter = by_rule("hto");
        let none = nothing_fires(&filter, &seen(&filter), &[]);
        assert!(none.starts_with("nothing is firing; the topic has no alert of the rule \"hto\""), "{none}");
    }
}
