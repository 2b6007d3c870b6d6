//! All metrics at one moment, rebuilt each round, so that a node, topic or group that has gone leaves no series.

use std::collections::BTreeMap;

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::metrics::describe::{Described, kind};

/// A metric, without values.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    kind: MetricType,
}

impl Definition {
    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels, kind: MetricType::GAUGE }
    }

    /// Counted by the observed server: it falls to zero when that server restarts.
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels, kind: MetricType::COUNTER }
    }

    pub fn is_counter(&self) -> bool {
        self.kind == MetricType::COUNTER
    }

    /// By name, type, help text and labels.
    pub fn describe(&self) -> Described {
        Described {
            name: self.name.to_owned(),
            kind: kind(self.kind),
            help: self.help.to_owned(),
            labels: self.labels.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    pub fn description(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, Default::default())
    }
}

/// Values by metric.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Snapshot {
    /// Sets a value; `labels` are the label values in the order of the definition. NaN and infinities are left out.
    pub fn set(&mut self, definition: &Definition, labels: &[&str], value: f64) {
        debug_assert_eq!(definition.labels.len(), labels.len(), "{}", definition.name);
        if !value.is_finite() {
            return;
        }
        let mut metric = Metric::default();
        let pairs = definition.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        metric.set_label(pairs.collect());
        match definition.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        let family = self.families.entry(definition.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(definition.name.to_owned());
            family.set_help(definition.help.to_owned());
            family.set_field_type(definition.kind);
            family
        });
        family.mut_metric().push(metric);
    }

    pub fn append(&mut self, other: Self) {
        for (name, mut family) in other.families {
            match self.families.get_mut(name) {
                Some(found) => found.mut_metric().extend(family.take_metric()),
                None => {
                    self.families.insert(name, family);
                }
            }
        }
    }

    /// Each value of a metric with its label values, in the order of the definition.
    pub fn values(&self, definition: &Definition) -> Vec<(Vec<&str>, f64)> {
        let metrics = self
            .families
            .get(definition.name)
            .map(prometheus::proto::MetricFamily::get_metric)
            .unwrap_or_default();
        let value = |metric: &Metric| match definition.kind {
            MetricType::COUNTER => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        };
        let labels = |metric| Metric::get_label(metric).iter().map(LabelPair::value).collect();
        metrics.iter().map(|metric| (labels(metric), value(metric))).collect()
    }

    /// The value with exactly these labels.
    pub fn value(&self, definition: &Definition, labels: &[&str]) -> Option<f64> {
        self.values(definition).into_iter().find_map(|(found, value)| (found == labels).then_some(value))
    }

    pub fn into_families(self) -> Vec<MetricFamily> {
        self.families.into_values().collect()
    }

    /// As a scrape returns it.
    #[cfg(test)]
    pub fn into_text(self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.into_families()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_a_number_leaves_no_series_and_two_snapshots_merge() {
        const RATIO: Definition = Definition::gauge("ratio", "Hits by requests", &["cache"]);
        const HITS: Definition = Definition::counter("hits_total", "Hits", &["cache"]);
        let mut snapshot = Snapshot::default();
        snapshot.set(&RATIO, &["a"], f64::NAN);
        snapshot.set(&HITS, &["a"], 3.0);
        let mut other = Snapshot::default();
        other.set(&HITS, &["b \"quoted\""], 4.0);
        snapshot.append(other);
        assert_eq!(snapshot.value(&HITS, &["a"]), Some(3.0));
        assert_eq!(snapshot.value(&RATIO, &["a"]), None);
        assert_eq!(snapshot.values(&HITS).len(), 2);
        assert_eq!(
            snapshot.into_text(),
            "# HELP hits_total Hits\n# TYPE hits_total counter\nhits_total{cache=\"a\"} 3\n\
             hits_total{cache=\"b \\\"quoted\\\"\"} 4\n"
        );
    }
}
