//! Which rules have anything to judge: a misspelt name in a rule is no error, so a rule that nothing matches is told with the reason.

use std::collections::BTreeSet;

use super::{Rule, Rules};
use crate::output::text::visible;
use crate::reading::{Metric, Reading};

/// Names in a remark.
const MOST: usize = 10;

/// What of the readings each rule matches.
pub struct Reach {
    rules: Vec<(Rule, Reached)>,
    locations: BTreeSet<String>,
    device_types: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

/// In this order: a group is looked at before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Nothing,
    Group,
    Value,
}

impl Reach {
    pub fn new(rules: &Rules) -> Self {
        let rules = rules.0.iter().map(|rule| (rule.clone(), Reached::Nothing)).collect();
        let (locations, device_types, metrics) = Default::default();
        Self { rules, locations, device_types, metrics }
    }

    pub fn note(&mut self, reading: &Reading<'_>) {
        // Then there is nothing to remark on, and no name to know.
        if self.rules.iter().all(|(_, reached)| *reached == Reached::Value) {
            return;
        }
        let columns = Metric::COLUMNS.iter().filter(|metric| reading.value(metric).is_some());
        let others = reading.other_metrics.iter().map(|(name, _)| &**name);
        columns.map(Metric::name).chain(others).for_each(|name| learn(&mut self.metrics, name));
        learn(&mut self.locations, &reading.location);
        learn(&mut self.device_types, &reading.device_type);
        for (rule, reached) in &mut self.rules {
            // A rule is asked again only until it has judged something.
            if *reached == Reached::Value || !rule.is_about(&reading.location, &reading.device_type) {
                continue;
            }
            let has_value = rule.metric.is_none() || rule.value(reading).is_some();
            *reached = if has_value { Reached::Value } else { Reached::Group };
        }
    }

    /// One for each rule that had nothing to judge.
    pub fn remarks(&self) -> Vec<String> {
        let unmatched = self.rules.iter().filter(|(_, reached)| *reached != Reached::Value);
        unmatched
            .map(|(rule, reached)| format!("rule {}: {}", rule.name, self.reason(rule, *reached)))
            .collect()
    }

    fn reason(&self, rule: &Rule, reached: Reached) -> String {
        let metrics = some(&self.metrics);
        match (reached, &rule.expression, &rule.metric) {
            (Reached::Nothing, ..) => self.unknown_group(rule),
            (_, Some(_), _) => {
                format!("its expression has no value for any reading (metrics of these readings: {metrics})")
            }
            (_, None, metric) => {
                let name = metric.as_ref().map(Metric::name).unwrap_or_default();
                format!(
                    "no reading that it is about has the metric {} (known metrics: {metrics})",
                    visible(name)
                )
            }
        }
    }

    fn unknown_group(&self, rule: &Rule) -> String {
        let unknown = |what: &str, wanted: &Option<String>, known: &BTreeSet<String>| {
            let wanted = wanted.as_ref().filter(|name| !known.contains(*name))?;
            Some(format!("no reading has the {what} {} (known: {})", visible(wanted), some(known)))
        };
        unknown("location", &rule.location, &self.locations)
            .or_else(|| unknown("device type", &rule.device_type, &self.device_types))
            .unwrap_or_else(|| "no reading has both its location and its device type".to_owned())
    }
}

fn learn(known: &mut BTreeSet<String>, name: &str) {
    if !known.contains(name) {
        known.insert(name.to_owned());
    }
}

fn some(names: &BTreeSet<String>) -> String {
    let mut shown: Vec<_> = names.iter().take(MOST).map(|name| visible(name).into_owned()).collect();
    if names.len() > MOST {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_nothing_matches_is_told_with_the_name_that_is_not_known() {
        let rules = Rules::parse(
            r#"
            [[rule]]
            name = "hot"
            metric = "temperature"
            threshold = { above = 1 }
            [[rule]]
            name = "misspelt"
            metric = "temprature"
            threshold = { above = 1 }
            [[rule]]
            name = "elsewhere"
            metric = "temperature"
            location = "nowhere"
            threshold = { above = 1 }
            [[rule]]
            name = "difference"
            metric = "spread"
            expression = ".temperature - .dew_point"
            threshold = { above = 1 }
            "#,
        )
        .unwrap();
        let mut reach = Reach::new(&rules);
        reach.note(&Reading { temperature: Some(20.0), ..Reading::sample() });
        let remarks = reach.remarks();
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        assert!(
            remarks[0]
                .starts_with("rule misspelt: no reading that it is about has the metric temprature (known")
        );
        assert!(remarks[1].starts_with("rule elsewhere: no reading has the location nowhere (known: "));
        assert!(remarks[2].starts_with("rule difference: its expression has no value for any reading"));
    }
}
