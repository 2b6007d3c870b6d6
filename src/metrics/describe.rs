//! What a registry exports, without its values: for the reference.

use prometheus::core::Collector;
use prometheus::proto::MetricType;

/// A metric by name, type, help text and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub help: String,
    pub labels: Vec<String>,
}

/// The metrics of the collectors, those without a value yet included.
pub fn describe<'a>(collectors: impl IntoIterator<Item = &'a Box<dyn Collector>>) -> Vec<Described> {
    let mut all = Vec::new();
    for collector in collectors {
        for (description, family) in collector.desc().into_iter().zip(collector.collect()) {
            let constant = description.const_label_pairs.iter().map(|pair| pair.name().to_owned());
            all.push(Described {
                name: description.fq_name.clone(),
                kind: kind(family.get_field_type()),
                help: description.help.clone(),
                labels: constant.chain(description.variable_labels.iter().cloned()).collect(),
            });
        }
    }
    all
}

/// The name of a type in Prometheus' text format.
pub fn kind(of: MetricType) -> &'static str {
    match of {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::GAUGE => "gauge",
        MetricType::UNTYPED => "untyped",
    }
}
