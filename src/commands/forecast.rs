//! `iotctl forecast`: what a metric will do next, with an interval, and how good such forecasts have been.

use std::sync::Arc;

use chrono::Utc;
use clap::{Args, ValueEnum};
use serde_json::json;
use uuid::Uuid;

use super::Context;
use super::anomalies::{blocking, length, rounded};
use super::extremes::{finite, known_or_refused, metric};
use super::plots::{self, PlotArgs};
use super::query::{GroupArgs, until_stopped};
use crate::analytics::history::History;
use crate::analytics::series::{Point, Regular};
use crate::analytics::{TimeRange, extremes, time_range};
use crate::cassandra::Session;
use crate::cassandra::forecasts::{self, Subject};
use crate::cassandra::groups::Group;
use crate::error::UsageError;
use crate::forecasts::backtest::Backtest;
use crate::forecasts::{Crossing, Direction, Forecast, Model, Plan, forecast};
use crate::output::record::{Cell, Clock, Heading};
use crate::output::{Format, Output};
use crate::plot::files::Picture;
use crate::plot::{Chart, Range, Series};
use crate::reading::Metric;
use crate::rollups::HOUR;

/// Steps of a table that are shown of a long forecast.
const TABLE_STEPS: usize = 48;

/// What a metric will do next, with an interval that holds it.
///
/// Means over steps (an hour; of all sensors of the group, or of one) are continued by a model: `seasonal-naive` (as a
/// season ago), `ets` (exponential smoothing; no season), `mstl` (season and trend apart). `auto` tries all of them on the
/// past and takes the one with the least error. Intervals come from the errors that such forecasts have made in the past,
/// and hold as far as the series goes on as it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --horizon 24h
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --above 30
  iotctl forecast --metric temperature --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11 --history 60d --backtest
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --plot forecast.png
  iotctl forecast --metric rpm --location plant-1 --device-type machine --step 10m --model mstl --store --format json

MAE is the mean absolute error; MASE is that against the error of `as a season ago` within the history: below 1 is better
than that. Coverage is the share of past values that lay within their intervals, drawn from what was known before.")]
pub struct ForecastArgs {
    /// A numeric column or a name in other_metrics
    #[arg(long, value_name = "NAME")]
    pub metric: String,
    #[command(flatten)]
    pub group: GroupArgs,
    /// One sensor's values
    #[arg(long, value_name = "ID")]
    pub sensor: Option<Uuid>,
    /// How far ahead
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length)]
    pub horizon: i64,
    /// Means over this length; from rollups where it is whole hours
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = length)]
    pub step: i64,
    /// What repeats
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length)]
    pub season: i64,
    /// How much of the past to learn from
    #[arg(long, value_name = "LENGTH", default_value = "30d", value_parser = length)]
    pub history: i64,
    /// As if it were this moment: for the past
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub at: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub model: ModelArg,
    /// The share of values that intervals are to hold
    #[arg(long, value_name = "0-1", default_value = "0.95", value_parser = level)]
    pub level: f64,
    /// Say when the metric rises above this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite, conflicts_with = "below")]
    pub above: Option<f32>,
    /// Say when the metric falls below this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub below: Option<f32>,
    /// Show how each model would have done, instead of the forecast
    #[arg(long)]
    pub backtest: bool,
    /// Store the forecast in the table iot_forecasts, for forecast.retention
    #[arg(long, conflicts_with = "backtest")]
    pub store: bool,
    /// Local time instead of UTC
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub plot: PlotArgs,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ModelArg {
    /// The one that would have done best
    #[default]
    Auto,
    /// As a season ago
    SeasonalNaive,
    /// Exponential smoothing of level and trend
    Ets,
    /// Season by MSTL, and ETS of the rest
    Mstl,
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(level) if (0.5..1.0).contains(&level) => Ok(level),
        _ => Err("not a number from 0.5 to below 1".to_owned()),
    }
}

impl ForecastArgs {
    fn plan(&self) -> Result<Plan, UsageError> {
        let refuse = |message: &str| Err(UsageError::new(message.to_owned()));
        if self.season % self.step != 0 || self.season < 2 * self.step {
            return refuse("--season must be a multiple of --step, two steps at least");
        }
        if self.horizon < self.step {
            return refuse("--horizon is shorter than one --step");
        }
        let models = match self.model {
            ModelArg::Auto => Model::ALL.to_vec(),
            _ if self.backtest => return refuse("--backtest tries every model (leave --model out)"),
            ModelArg::SeasonalNaive => vec![Model::SeasonalNaive],
            ModelArg::Ets => vec![Model::Ets],
            ModelArg::Mstl => vec![Model::Mstl],
        };
        let steps = |length: i64| usize::try_from(length / self.step).unwrap_or(usize::MAX);
        Ok(Plan { models, horizon: steps(self.horizon), season: steps(self.season), level: self.level })
    }

    fn limit(&self) -> Option<(f64, Direction)> {
        let above = self.above.map(|limit| (f64::from(limit), Direction::Above));
        above.or(self.below.map(|limit| (f64::from(limit), Direction::Below)))
    }
}

pub async fn run(args: ForecastArgs, context: Context) -> anyhow::Result<()> {
    let Context { output, shutdown, config, .. } = &context;
    let zone = if args.local { time_range::Zone::Local } else { time_range::Zone::Utc };
    let now = Utc::now().timestamp_millis();
    let at = match &args.at {
        None => now,
        Some(text) => {
            time_range::moment(text, zone, now).map_err(|error| UsageError::new(format!("--at: {error}")))?
        }
    };
    let plan = args.plan()?;
    let metric = metric(&args.metric)?;
    let session = Session::connect(&config.cassandra).await?;
    let selection = args.group.selection();
    let groups = match args.sensor {
        Some(sensor) => until_stopped(shutdown, selection.resolve_sensor(&session, sensor)).await?,
        None => vec![selection.exactly()?],
    };
    // The step that is not over yet would look like a fall or a rise.
    let to = at.div_euclid(args.step) * args.step;
    let range = TimeRange { from: to.saturating_sub(args.history), to };
    let history = History {
        groups: groups.clone(),
        sensor: args.sensor,
        metric: metric.clone(),
        range,
        step: args.step,
    };
    let spinner = output.spinner("reading the past");
    let series = until_stopped(shutdown, history.read(&session)).await?;
    let Some(series) = series else {
        spinner.finish_and_clear();
        until_stopped(shutdown, selection.explain_absence(&session)).await?;
        let names = until_stopped(shutdown, extremes::other_metric_names(&session, &groups)).await?;
        known_or_refused(&metric, &names, groups.len())?;
        anyhow::bail!(
            "no reading has {metric} in the {} before {} (see `iotctl stats --by day`, or ask for a longer --history)",
            humantime::format_duration(std::time::Duration::from_millis(args.history.unsigned_abs())),
            time_range::display(to)
        );
    };
    spinner.set_message("trying models on the past");
    let fitted = {
        let (series, plan) = (series.clone(), plan.clone());
        until_stopped(shutdown, blocking(move || forecast(&series, &plan))).await
    };
    spinner.finish_and_clear();
    let found = fitted?.map_err(|error| UsageError::new(error.to_string()))?;
    let clock = if args.local { Clock::Local } else { Clock::Utc };
    if args.backtest {
        print_backtests(&found.backtests, &args, output)?;
    } else if args.plot.plot.is_some() {
        args.plot.show(&picture(&found, &series, &args, &metric), output)?;
    } else {
        print(&found, &args, &metric, clock, output)?;
    }
    if args.store {
        let subject = Subject {
            group: newest(&groups)?,
            sensor: args.sensor,
            metric: &metric,
            made_at: now,
            step: args.step,
            level: args.level,
        };
        until_stopped(shutdown, forecasts::store(&session, &subject, &found, config.forecast.retention))
            .await?;
        output.note("stored in iot_forecasts");
    }
    remark(&found, &series, &args, to, clock, output);
    Ok(())
}

/// The last of the past, three times as long as the horizon, and the forecast with its interval.
fn picture(found: &Forecast, series: &Regular, args: &ForecastArgs, metric: &Metric) -> Picture {
    let from = series.len().saturating_sub(3 * found.steps.len());
    let past = (from..series.len()).map(|index| Point { at: series.at(index), value: series.values[index] });
    let next = found.steps.iter().map(|step| Point { at: step.at, value: step.value });
    let line = |name: &str, points: Vec<Point>| Series { name: name.to_owned(), points };
    Picture::Chart(Chart {
        title: format!("{}, forecast by {}", plots::title(metric), found.model.name()),
        series: vec![line("measured", past.collect()), line("forecast", next.collect())],
        band: found.steps.iter().map(|step| Range { at: step.at, low: step.low, high: step.high }).collect(),
        limit: args.limit().map(|(limit, _)| limit),
        ..Chart::default()
    })
}

/// Of a sensor that was moved, the last group by name; of one group, that.
fn newest(groups: &[Arc<Group>]) -> anyhow::Result<&Arc<Group>> {
    groups.last().ok_or_else(|| anyhow::anyhow!("there is no group to store a forecast of"))
}

fn print(
    found: &Forecast,
    args: &ForecastArgs,
    metric: &Metric,
    clock: Clock,
    output: &Output,
) -> anyhow::Result<()> {
    if args.format == Format::Json {
        return output.json(&json(found, args, metric, clock));
    }
    let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
    let percent = format!("{}%", args.level * 100.0);
    let headings = vec![
        Heading::left("at"),
        Heading::right("value").titled(format!("{metric}{unit}")),
        Heading::right("low").titled(format!("low {percent}")),
        Heading::right("high").titled(format!("high {percent}")),
        Heading::left("model"),
    ];
    let mut records = output.records(args.format, clock, headings)?;
    let shown = if args.format == Format::Table { TABLE_STEPS } else { usize::MAX };
    for step in found.steps.iter().take(shown) {
        records.write(&[
            Cell::Moment(step.at),
            Cell::Number(rounded(step.value)),
            Cell::Number(rounded(step.low)),
            Cell::Number(rounded(step.high)),
            Cell::Text(found.model.name()),
        ])?;
    }
    records.finish()?;
    if found.steps.len() > shown {
        output.note(format!("showing {shown} of {} steps (--format csv for all)", found.steps.len()));
    }
    Ok(())
}

/// One object: the forecast, how it was chosen, and when it crosses a limit.
fn json(found: &Forecast, args: &ForecastArgs, metric: &Metric, clock: Clock) -> serde_json::Value {
    let steps: Vec<_> = found
        .steps
        .iter()
        .map(|step| json!({ "at": clock.show(step.at), "value": step.value, "low": step.low, "high": step.high }))
        .collect();
    let crossing = args.limit().map(|(limit, direction)| {
        let Crossing { likely, earliest, latest } = Crossing::of(&found.steps, limit, direction);
        let show = |at: Option<i64>| at.map(|at| clock.show(at));
        let direction = if direction == Direction::Above { "above" } else { "below" };
        json!({ direction: limit, "likely": show(likely), "earliest": show(earliest), "latest": show(latest) })
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
    json!({
        "metric": metric.name(),
        "unit": metric.unit(),
        "model": found.model.name(),
        "level": args.level,
        "step_seconds": args.step / 1000,
        "filled_steps": found.filled,
        "backtests": backtests,
        "crossing": crossing,
        "steps": steps,
    })
}

fn print_backtests(backtests: &[Backtest], args: &ForecastArgs, output: &Output) -> anyhow::Result<()> {
    let naive = backtests.iter().find(|test| test.model == Model::SeasonalNaive);
    let headings = vec![
        Heading::left("model"),
        Heading::right("origins"),
        Heading::right("mae").titled("MAE"),
        Heading::right("mase").titled("MASE"),
        Heading::right("against_naive").titled("MAE / seasonal-naive"),
        Heading::right("coverage").titled(format!("coverage (of {}%)", args.level * 100.0)),
    ];
    let mut records = output.records(args.format, Clock::Utc, headings)?;
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

fn remark(found: &Forecast, series: &Regular, args: &ForecastArgs, to: i64, clock: Clock, output: &Output) {
    let last = series.at(series.len());
    let chosen = found.backtests.iter().find(|test| test.model == found.model);
    if let Some(test) = chosen {
        output.note(format!(
            "{} by its errors on {} steps of the past: MAE {}, MASE {}, {} % of values within their intervals",
            found.model.name(),
            series.len(),
            rounded(test.mean_absolute_error),
            rounded(test.scaled_error),
            (test.coverage * 100.0).round()
        ));
    }
    if let Some((limit, direction)) = args.limit() {
        let word = if direction == Direction::Above { "rises above" } else { "falls below" };
        let crossing = Crossing::of(&found.steps, limit, direction);
        output.note(format!("{word} {limit}: {}", describe(crossing, last)));
    }
    if found.filled > 0 {
        output.note(format!(
            "{} of {} steps had no value and were drawn through",
            found.filled,
            series.len()
        ));
    }
    if to - last >= args.step.max(HOUR) {
        output.note(format!("the newest value is of {}: the forecast goes on from there", clock.show(last)));
    }
}

/// `in about 5h (from 3h to 9h)`.
fn describe(crossing: Crossing, from: i64) -> String {
    let show = |at: i64| {
        humantime::format_duration(std::time::Duration::from_millis((at - from).max(0).unsigned_abs()))
            .to_string()
    };
    let earliest = |at: i64| if at <= from { "at once".to_owned() } else { format!("in {}", show(at)) };
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
                "{} (at the earliest {}, perhaps not within the horizon)",
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
    if likely <= from { "at once".to_owned() } else { format!("in about {}", show(likely)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_told_in_words() {
        let crossing = |likely, earliest, latest| Crossing { likely, earliest, latest };
        let of = |crossing| describe(crossing, 0);
        assert_eq!(
            of(crossing(Some(5 * HOUR), Some(3 * HOUR), Some(9 * HOUR))),
            "in about 5h (at the earliest in 3h, at the latest in 9h)"
        );
        assert_eq!(
            of(crossing(Some(5 * HOUR), Some(0), None)),
            "in about 5h (at the earliest at once, perhaps not within the horizon)"
        );
        assert_eq!(
            of(crossing(None, Some(7 * HOUR), None)),
            "not likely within the horizon, at the earliest in 7h"
        );
        assert_eq!(of(Crossing::default()), "not within the horizon");
    }
}
