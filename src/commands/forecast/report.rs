//! A forecast and its back-tests as tables, JSON and pictures.

use crate::commands::support::{plot_subject, rounded, rounded_within};
use crate::forecasts::backtest::Backtest;
use crate::forecasts::{Crossing, Direction, Forecast, Model};
use crate::output::record::{Cell, Heading};
use crate::output::{Format, Output, number};
use crate::plot::files::Picture;
use crate::plot::{Chart, lines};
use crate::reading::Metric;
use crate::series::Regular;
use crate::time::{HOUR, Zone};
use serde_json::json;

use super::QuestionArgs;

/// Steps of a long forecast that a table shows.
const TABLE_STEPS: usize = 48;

/// The end of the past, three times as long as the horizon, and the forecast with its interval.
pub(super) fn picture(
    found: &Forecast,
    series: &Regular,
    args: &QuestionArgs,
    (metric, unit): (&Metric, Option<&str>),
    zone: Zone,
) -> Picture {
    let (series, band) = lines::forecast(series, &found.steps);
    Picture::Chart(Chart {
        title: format!("{}, forecast by {}", lines::title_in(metric, unit), found.model.name()),
        subject: plot_subject(&args.selection),
        series,
        band,
        band_name: format!("{} % interval", rounded(args.level * 100.0)),
        limit: args.limit().map(|(limit, _)| limit),
        zone,
        ..Chart::default()
    })
}

pub(super) fn print(
    found: &Forecast,
    args: &QuestionArgs,
    (metric, unit): (&Metric, Option<&str>),
    zone: Zone,
    output: &Output,
) -> anyhow::Result<()> {
    if args.format == Format::Json {
        return output.json(&json(found, args, (metric, unit), zone));
    }
    let percent = format!("{}%", args.level * 100.0);
    let headings = vec![
        Heading::left("at"),
        Heading::right("value").titled(lines::title_in(metric, unit)),
        Heading::right("low").titled(format!("low {percent}")),
        Heading::right("high").titled(format!("high {percent}")),
        Heading::left("model"),
    ];
    let mut records = output.records(args.format, zone, headings)?;
    let most = if args.format == Format::Table { TABLE_STEPS } else { usize::MAX };
    for step in found.steps.iter().take(most) {
        let shown = |value| Cell::Number(rounded_within(value, step.high - step.low));
        records.write(&[
            Cell::Moment(step.at),
            shown(step.value),
            shown(step.low),
            shown(step.high),
            Cell::Text(found.model.name()),
        ])?;
    }
    records.finish()?;
    if found.steps.len() > most {
        output.note(format!("showing {most} of {} steps (--format csv for all)", found.steps.len()));
    }
    Ok(())
}

/// One object: the forecast, how it was chosen, and when it crosses a limit.
fn json(
    found: &Forecast,
    args: &QuestionArgs,
    (metric, unit): (&Metric, Option<&str>),
    zone: Zone,
) -> serde_json::Value {
    let steps: Vec<_> = found
        .steps
        .iter()
        .map(|step| json!({ "at": zone.show(step.at), "value": step.value, "low": step.low, "high": step.high }))
        .collect();
    let crossing = args.limit().map(|(limit, direction)| {
        let Crossing { likely, earliest, latest } = Crossing::of(&found.steps, limit, direction);
        let show = |at: Option<i64>| at.map(|at| zone.show(at));
        json!({ direction.name(): limit, "likely": show(likely), "earliest": show(earliest), "latest": show(latest) })
    });
    let backtests: Vec<_> = found
        .backtests
        .iter()
        .map(|test| {
            json!({
                "model": test.model.name(),
                "origins": test.origins,
                "mae": test.mean_absolute_error,
                "mase": test.scaled_error,
                "coverage": test.coverage,
            })
        })
        .collect();
    let sensor = args.selection.sensor.as_ref();
    json!({
        "iot_sensor_id": sensor.map(|sensor| sensor.id),
        "sensor_name": sensor.and_then(|sensor| sensor.name.as_ref()),
        "metric": metric.name(),
        "unit": unit,
        "model": found.model.name(),
        "level": args.level,
        "step_seconds": args.step / 1000,
        "filled_steps": found.filled,
        "backtests": backtests,
        "left_out": found.left_out,
        "crossing": crossing,
        "steps": steps,
    })
}

pub(super) fn print_backtests(
    backtests: &[Backtest],
    args: &QuestionArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let naive = backtests.iter().find(|test| test.model == Model::SeasonalNaive);
    let headings = vec![
        Heading::left("model"),
        Heading::right("origins"),
        Heading::right("mae").titled("MAE"),
        Heading::right("mase").titled("MASE"),
        Heading::right("against_naive").titled("MAE / seasonal-naive"),
        Heading::right("coverage").titled(format!("coverage (of {}%)", args.level * 100.0)),
    ];
    let mut records = output.records(args.format, Zone::Utc, headings)?;
    for test in backtests {
        let against = naive.map(|naive| test.mean_absolute_error / naive.mean_absolute_error);
        let number =
            |value: f64| if value.is_finite() { Cell::Number(rounded(value)) } else { Cell::Missing };
        records.write(&[
            Cell::Text(test.model.name()),
            Cell::Count(test.origins as u64),
            number(test.mean_absolute_error),
            number(test.scaled_error),
            against.map_or(Cell::Missing, number),
            number(test.coverage),
        ])?;
    }
    records.finish()?;
    Ok(())
}

pub(super) fn remark(
    found: &Forecast,
    series: &Regular,
    args: &QuestionArgs,
    to: i64,
    zone: Zone,
    output: &Output,
) {
    let last = series.at(series.len());
    for reason in &found.left_out {
        output.note(format!("left out: {reason}"));
    }
    let chosen = found.backtests.iter().find(|test| test.model == found.model);
    if let Some(test) = chosen {
        output.note(format!(
            "{}, tested on {} past steps: MAE {}, MASE {}, {} % of values within their intervals",
            found.model.name(),
            series.len(),
            or_dash(test.mean_absolute_error),
            or_dash(test.scaled_error),
            share(test.coverage)
        ));
        if !test.scaled_error.is_finite() {
            output.note("no MASE: the history repeats itself exactly, so there is no error to compare with");
        }
    }
    if let Some((limit, direction)) = args.limit() {
        let word = if direction == Direction::Above { "rises above" } else { "falls below" };
        let crossing = Crossing::of(&found.steps, limit, direction);
        output.note(format!("{word} {}: {}", number::exact(limit), describe(crossing, last)));
    }
    if found.filled > 0 {
        output.note(format!("{} of {} steps had no value and were interpolated", found.filled, series.len()));
    }
    if to - last >= args.step.max(HOUR) {
        output.note(format!("the newest value is from {}: the forecast starts there", zone.show(last)));
    }
}

/// A figure of a back-test; `-` where it has none.
fn or_dash(value: f64) -> String {
    if value.is_finite() { number::exact(rounded(value)) } else { "-".to_owned() }
}

/// A share in percent; one below 1 is not shown as 100 %.
fn share(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let percent = value * 100.0;
    let rounded = (percent * 10.0).round() / 10.0;
    let rounded = if value < 1.0 { rounded.min(99.9) } else { rounded };
    number::exact(rounded)
}

/// `in about 5h (from 3h to 9h)`.
fn describe(crossing: Crossing, from: i64) -> String {
    let show = |at: i64| {
        humantime::format_duration(std::time::Duration::from_millis((at - from).max(0).unsigned_abs()))
            .to_string()
    };
    let earliest = |at: i64| if at <= from { "immediately".to_owned() } else { format!("in {}", show(at)) };
    match (crossing.likely, crossing.earliest, crossing.latest) {
        (Some(likely), Some(soonest), Some(latest)) => {
            format!(
                "{} (at the earliest {}, at the latest in {})",
                about(likely, from, show),
                earliest(soonest),
                show(latest)
            )
        }
        (Some(likely), Some(soonest), None) => {
            format!(
                "{} (at the earliest {}, possibly not within the horizon)",
                about(likely, from, show),
                earliest(soonest)
            )
        }
        (None, Some(soonest), _) => {
            format!("not likely within the horizon, at the earliest {}", earliest(soonest))
        }
        _ => "not within the horizon".to_owned(),
    }
}

fn about(likely: i64, from: i64, show: impl Fn(i64) -> String) -> String {
    if likely <= from { "immediately".to_owned() } else { format!("in about {}", show(likely)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_below_one_is_not_shown_as_all() {
        assert_eq!([0.99583, 0.99999, 1.0, 0.57].map(share), ["99.6", "99.9", "100", "57"]);
        assert_eq!(share(f64::NAN), "-");
    }

    #[test]
    fn a_figure_that_does_not_exist_is_a_dash() {
        assert_eq!([f64::NAN, f64::INFINITY, 0.0, 1.234_567_89].map(or_dash), ["-", "-", "0", "1.2346"]);
    }

    #[test]
    fn a_crossing_is_described_in_words() {
        let crossing = |likely, earliest, latest| Crossing { likely, earliest, latest };
        let of = |crossing| describe(crossing, 0);
        assert_eq!(
            of(crossing(Some(5 * HOUR), Some(3 * HOUR), Some(9 * HOUR))),
            "in about 5h (at the earliest in 3h, at the latest in 9h)"
        );
        assert_eq!(
            of(crossing(Some(5 * HOUR), Some(0), None)),
            "in about 5h (at the earliest immediately, possibly not within the horizon)"
        );
        assert_eq!(
            of(crossing(None, Some(7 * HOUR), None)),
            "not likely within the horizon, at the earliest in 7h"
        );
        assert_eq!(of(Crossing::default()), "not within the horizon");
    }
}
