//! `--agg`: the statistics of a line.

use std::str::FromStr;

use crate::analytics::stats::Line;
use crate::output::record::{Cell, Heading};

#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    Count,
    Min,
    Avg,
    Max,
    Sum,
    Stddev,
    /// With its name, such as p99.9, and its share from 0 to 1.
    Percentile(String, f64),
}

impl FromStr for Aggregate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} is not a statistic (write count, min, avg, max, sum, stddev, or a percentile such as p50 or p99.9)"
            )
        };
        Ok(match text {
            "count" => Self::Count,
            "min" => Self::Min,
            "avg" => Self::Avg,
            "max" => Self::Max,
            "sum" => Self::Sum,
            "stddev" => Self::Stddev,
            _ => {
                let digits = text
                    .strip_prefix('p')
                    .filter(|digits| digits.starts_with(|at: char| at.is_ascii_digit()));
                // Not divided by 100: 0.999 is another number than 99.9 / 100, and its rank another one.
                let share = digits.and_then(|digits| format!("{digits}e-2").parse().ok());
                let share = share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(refuse)?;
                Self::Percentile(text.to_owned(), share)
            }
        })
    }
}

impl Aggregate {
    pub fn name(&self) -> &str {
        match self {
            Self::Count => "count",
            Self::Min => "min",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Stddev => "stddev",
            Self::Percentile(name, _) => name,
        }
    }

    pub fn quantile(&self) -> Option<f64> {
        match self {
            Self::Percentile(_, share) => Some(*share),
            _ => None,
        }
    }

    pub fn value(&self, line: &Line) -> f64 {
        let summary = &line.summary;
        match self {
            Self::Count => summary.count as f64,
            Self::Min => summary.lowest.value,
            Self::Avg => summary.mean(),
            Self::Max => summary.highest.value,
            Self::Sum => summary.sum,
            Self::Stddev => summary.standard_deviation(),
            Self::Percentile(_, share) => line.quantile(*share),
        }
    }

    /// `suffix` tells it from the same statistic of another range; `unit` is empty, or ` (°C)`.
    pub fn heading(&self, suffix: &str, unit: &str) -> Heading {
        let name = format!("{}{suffix}", self.name());
        let title = format!("{}{}", name.replace('_', " "), if *self == Self::Count { "" } else { unit });
        Heading::right(name).titled(title)
    }

    /// A stored value is shown as it is, a computed one without its last digits.
    pub fn cell(&self, value: Option<f64>, is_computed: bool) -> Cell<'static> {
        match (self, value) {
            (_, None) => Cell::Missing,
            (Self::Count, Some(count)) if count >= 0.0 => Cell::Count(count as u64),
            (Self::Min | Self::Max | Self::Percentile(..), Some(value)) if !is_computed => {
                Cell::Number(value)
            }
            (_, Some(value)) => Cell::Double(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_percentile_has_its_name_and_share() {
        assert_eq!("p99.9".parse(), Ok(Aggregate::Percentile("p99.9".into(), 0.999)));
        assert_eq!("p0".parse::<Aggregate>().unwrap().quantile(), Some(0.0));
        for wrong in ["p", "p101", "p-1", "p1e1", "pNaN", "pinf", "median", "P50", ""] {
            assert!(wrong.parse::<Aggregate>().unwrap_err().contains("p99.9"), "{wrong}");
        }
    }
}
