//! A metric that is made of others of the same reading, in the language of jq.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::mapping::jq::Program;
use crate::reading::{Metric, Reading};

/// The program; equal where its text is.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    program: Arc<Program>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// # Errors
    /// Where the program is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let program = Program::parse(text).map_err(|problem| format!("expression: {problem}"))?;
        Ok(Self { text: text.to_owned(), program: Arc::new(program) })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its value for a reading; `None` where it is not a finite number, as where a metric was not measured.
    pub(super) fn value(&self, reading: &Reading<'_>) -> Option<f64> {
        let columns = Metric::COLUMNS.iter();
        let mut values: Map<String, Value> = columns
            .filter_map(|metric| Some((metric.name().to_owned(), reading.value(metric)?.into())))
            .collect();
        values.extend(reading.other_metrics.iter().map(|(name, value)| (name.to_string(), (*value).into())));
        let value = self.program.run(Value::Object(values)).ok()?;
        value.as_f64().filter(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_computed_from_the_metrics_that_a_reading_has() {
        let spread = Expression::parse(".temperature - .dew_point").unwrap();
        let mut reading = Reading { temperature: Some(20.5), ..Reading::sample() };
        assert_eq!(spread.value(&reading), None);
        reading.other_metrics.push(("dew_point".into(), 12.25));
        assert_eq!(spread.value(&reading), Some(8.25));
        assert!(Expression::parse(".temperature -").is_err());
        let division = Expression::parse(".temperature / (.dew_point - 12.25)").unwrap();
        assert_eq!(division.value(&reading), None);
    }
}
