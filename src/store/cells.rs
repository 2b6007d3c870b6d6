//! Which cells of a reading's row are read. What is left out is neither sent by the servers nor decoded.

use super::shape::{OTHERS, STATES, Shape, WIDE_OTHERS};
use crate::reading::Metric;

/// The cells of a row that a reader needs; its sensor and moment always come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// Of [`Metric::COLUMNS`].
    metrics: [bool; Metric::COLUMNS.len()],
    motion: bool,
    others: bool,
    states: bool,
}

impl Cells {
    pub const ALL: Self =
        Self { metrics: [true; Metric::COLUMNS.len()], motion: true, others: true, states: true };
    /// States and motion, without a number.
    pub const STATES: Self =
        Self { metrics: [false; Metric::COLUMNS.len()], motion: true, others: false, states: true };

    /// All of the other metrics.
    pub const OTHERS: Self =
        Self { metrics: [false; Metric::COLUMNS.len()], motion: false, others: true, states: false };

    /// The cells of either.
    pub fn or(self, other: Self) -> Self {
        Self {
            metrics: std::array::from_fn(|index| self.metrics[index] || other.metrics[index]),
            motion: self.motion || other.motion,
            others: self.others || other.others,
            states: self.states || other.states,
        }
    }

    /// The values of some metrics.
    pub fn of<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> Self {
        let mut cells =
            Self { metrics: [false; Metric::COLUMNS.len()], motion: false, others: false, states: false };
        for metric in metrics {
            match Metric::COLUMNS.iter().position(|column| column == metric) {
                Some(index) => cells.metrics[index] = true,
                None => cells.others = true,
            }
        }
        cells
    }

    /// Where each cell is in the rows of a statement over a table of this shape.
    pub(super) fn places(self, shape: Shape) -> Places {
        let mut places = Places { columns: vec!["iot_sensor_id", "recorded_timestamp"], ..Places::default() };
        for (index, name) in COLUMNS.into_iter().enumerate().filter(|(index, _)| self.metrics[*index]) {
            places.metrics[index] = Some(places.add(name));
        }
        if self.motion {
            places.motion = Some(places.add("motion_detected"));
        }
        for name in shape.columns() {
            match name {
                STATES if self.states => places.states = Some(places.add(name)),
                OTHERS if self.others => places.others = Some(places.add(name)),
                // It follows the narrow one, as `Shape::others` has it.
                WIDE_OTHERS if self.others => {
                    places.add(name);
                }
                _ => {}
            }
        }
        places
    }
}

/// The names of [`Metric::COLUMNS`] in the table.
const COLUMNS: [&str; Metric::COLUMNS.len()] =
    ["temperature", "humidity", "pressure", "light_level", "gas_concentration"];

/// The columns of a statement, and the index of each cell that is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub columns: Vec<&'static str>,
    /// Of [`Metric::COLUMNS`].
    pub metrics: [Option<usize>; Metric::COLUMNS.len()],
    pub motion: Option<usize>,
    pub others: Option<usize>,
    pub states: Option<usize>,
}

impl Places {
    fn add(&mut self, name: &'static str) -> usize {
        self.columns.push(name);
        self.columns.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_those_of_the_metrics() {
        for (metric, name) in Metric::COLUMNS.iter().zip(COLUMNS) {
            assert_eq!(metric.name(), name);
        }
    }

    #[test]
    fn only_what_is_needed_is_selected_and_found_in_its_place() {
        let shape = Shape { is_narrow: true, has_wide: true, has_states: true, ..Shape::default() };
        let all = Cells::ALL.places(shape);
        assert_eq!(all.columns.len(), 11);
        let states = Cells::STATES.places(shape);
        assert_eq!(states.columns, ["iot_sensor_id", "recorded_timestamp", "motion_detected", "states"]);
        assert_eq!((states.motion, states.states, states.others), (Some(2), Some(3), None));
        let some = Cells::of(&[Metric::Humidity, Metric::Other("rpm".into())]).places(shape);
        let expected =
            ["iot_sensor_id", "recorded_timestamp", "humidity", "other_metrics", "other_metrics_64"];
        assert_eq!((some.columns, some.metrics[1], some.others), (expected.to_vec(), Some(2), Some(3)));
        let either = Cells::of(&[Metric::Humidity]).or(Cells::OTHERS).or(Cells::STATES);
        assert_eq!(either.or(Cells::of(&Metric::COLUMNS)), Cells::ALL);
        assert_eq!(either.places(shape).metrics, [None, Some(2), None, None, None]);
        let old = Shape { is_narrow: true, ..Shape::default() };
        assert_eq!(Cells::STATES.places(old).states, None);
    }
}
