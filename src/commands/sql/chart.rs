//! An answer as a chart: one column of times, columns of numbers, and if there is one, a column of texts as the name of the
//! line.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};

use super::values::Values;
use crate::error::UsageError;
use crate::output::Output;
use crate::output::record::Cell;
use crate::plot::files::Picture;
use crate::plot::{Chart, MOST_SERIES, Series};
use crate::series::Point;
use crate::time::Zone;

/// Points that a chart may have: more are a mistake, and would fill the memory.
const MOST_POINTS: usize = 2_000_000;

/// The points of an answer, line by line.
#[derive(Debug)]
pub(super) struct Points {
    time: usize,
    text: Option<usize>,
    numbers: Vec<(usize, String)>,
    lines: BTreeMap<(String, usize), Vec<Point>>,
    count: usize,
}

impl Points {
    /// # Errors
    /// What such an answer lacks for a chart.
    pub(super) fn of(schema: &Schema) -> Result<Self, UsageError> {
        let of = |is_one: fn(&DataType) -> bool| -> Vec<usize> {
            let fields = schema.fields().iter().enumerate();
            fields.filter(|(_, field)| is_one(field.data_type())).map(|(index, _)| index).collect()
        };
        let times = of(|kind| matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64));
        let texts = of(|kind| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View));
        let numbers = of(DataType::is_numeric);
        let ([time], [] | [_], [_, ..]) = (&*times, &*texts, &*numbers) else {
            return Err(UsageError::new(format!(
                "--plot takes one column of times, one or more of numbers, and at most one of texts as the name of the line; \
                 the answer has {} of times, {} of numbers and {} of texts",
                times.len(),
                numbers.len(),
                texts.len()
            )));
        };
        let named = |index: usize| (index, schema.field(index).name().clone());
        let numbers = numbers.into_iter().map(named).collect();
        Ok(Self { time: *time, text: texts.first().copied(), numbers, lines: BTreeMap::new(), count: 0 })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let times = Values::moments(batch, self.time)?;
        let texts = self.text.map(|column| Values::of(batch, column, true)).transpose()?;
        for (number, (column, _)) in self.numbers.iter().enumerate() {
            let values = Values::of(batch, *column, true)?;
            for row in 0..batch.num_rows() {
                let Cell::Moment(at) = times.cell(row) else { continue };
                let value = match values.cell(row) {
                    Cell::Number(value) | Cell::Double(value) => value,
                    Cell::Count(value) => value as f64,
                    // The line breaks where nothing was measured.
                    _ => f64::NAN,
                };
                let name = match texts.as_ref().map(|texts| texts.cell(row)) {
                    Some(Cell::Text(name)) => name.to_owned(),
                    _ => String::new(),
                };
                self.lines.entry((name, number)).or_default().push(Point { at, value });
                self.count += 1;
            }
        }
        if self.count > MOST_POINTS {
            let text =
                format!("more than {MOST_POINTS} points for a chart (use time_bucket, or narrow the range)");
            return Err(UsageError::new(text).into());
        }
        Ok(())
    }

    pub(super) fn picture(self, zone: Zone, output: &Output) -> Picture {
        let Self { numbers, lines, .. } = self;
        let is_one = numbers.len() == 1;
        let mut series: Vec<_> = lines
            .into_iter()
            .map(|((text, number), mut points)| {
                points.sort_by_key(|point| point.at);
                let name = &numbers[number].1;
                let name = match (text.is_empty(), is_one) {
                    (true, _) => name.clone(),
                    (false, true) => text,
                    (false, false) => format!("{text}, {name}"),
                };
                Series { name, points }
            })
            .collect();
        if series.len() > MOST_SERIES {
            output.note(format!("drawing {MOST_SERIES} of {} lines (a condition draws fewer)", series.len()));
            series.truncate(MOST_SERIES);
        }
        let title = numbers.iter().map(|(_, name)| &**name).collect::<Vec<_>>().join(", ");
        Picture::Chart(Chart { title, series, zone, ..Chart::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn batch() -> RecordBatch {
        let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![2_000, 1_000, 1_000]));
        let place: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b"]));
        let value: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), Some(1.0), None]));
        RecordBatch::try_from_iter([("at", at), ("place", place), ("value", value)]).unwrap()
    }

    #[test]
    fn texts_name_lines_and_points_are_in_order_of_time() {
        let batch = batch();
        let mut points = Points::of(&batch.schema()).unwrap();
        points.add(&batch).unwrap();
        let lines: Vec<_> =
            points.lines.iter().map(|((name, _), points)| (name.as_str(), points.len())).collect();
        assert_eq!(lines, [("a", 2), ("b", 1)]);
        let output = Output::new(crate::output::ColorChoice::Never, true);
        let Picture::Chart(chart) = points.picture(Zone::Utc, &output) else { panic!() };
        let ats: Vec<_> = chart.series[0].points.iter().map(|point| point.at).collect();
        assert_eq!((ats, chart.title.as_str()), (vec![1_000, 2_000], "value"));
        assert!(chart.series[1].points[0].value.is_nan());
    }

    #[test]
    fn an_answer_without_times_or_numbers_is_refused_with_what_it_lacks() {
        let batch = batch().project(&[1, 2]).unwrap();
        let said = Points::of(&batch.schema()).unwrap_err().to_string();
        assert!(said.contains("0 of times, 1 of numbers and 1 of texts"), "{said}");
    }
}
