//! `iotctl forecast`: a prediction of a metric with an interval, and how good such forecasts have been.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::{Args, Subcommand, ValueEnum};
use tracing::warn;

use super::Context;
use super::flags::{ListenArgs, PlotArgs, SelectionArgs, ZoneArgs, finite, length, listen_address, metric};
use super::support::{blocking, known_or_refused, serve_metrics, until_stopped};
use crate::analytics::history::History;
use crate::analytics::metric_names;
use crate::analytics::units::{Asked, Units};
use crate::cassandra::Session;
use crate::config::duration::exact;
use crate::error::UsageError;
use crate::forecasts::metrics::ForecastMetrics;
use crate::forecasts::{Crossing, Direction, Forecast, Model, Plan, Seasons, forecast};
use crate::metrics::Health;
use crate::output::Format;
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Regular;
use crate::store::forecasts::{self, Subject};
use crate::time;

mod report;
mod score;

/// Predict a metric, with an interval.
///
/// Means over steps of one sensor or of all sensors of a group are continued by a model: `seasonal-naive` (the value one season
/// ago), `ets` (exponential smoothing, no season), `mstl` (seasons apart, the rest by ets), `mstl-ar` (seasons apart, the rest
/// returns to its mean), `mean` (of these and of the last long season), `prophet` (trend with change points; only in builds with
/// it). `auto` tries all of them on past data and takes the one with the smallest error. Intervals come from the
/// errors of such past forecasts, and hold as long as the series continues as it was.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --horizon 24h
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --above 30
  iotctl forecast --metric temperature --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11 --history 60d --backtest
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --plot forecast.png
  iotctl forecast --metric temperature --location plant-1 --device-type thermostat --above 30 --metrics-addr 9466
  iotctl forecast --metric rpm --location plant-1 --device-type machine --step 10m --model mstl --store --format json
  iotctl forecast score machine.csv --map timestamp=recorded_timestamp,value=value --output forecasts.csv

MAE is the mean absolute error. MASE divides it by the error of repeating the last season within the history: below 1 is
better than that. Coverage is the share of past values within the intervals forecast for them."
)]
pub struct ForecastArgs {
    #[command(subcommand)]
    pub command: Option<ForecastCommand>,
    #[command(flatten)]
    pub question: QuestionArgs,
}

#[derive(Debug, Subcommand)]
pub enum ForecastCommand {
    Score(score::ScoreArgs),
}

/// What to forecast from the stored readings.
#[derive(Debug, Args)]
pub struct QuestionArgs {
    /// A numeric column or a name in other_metrics
    // Not there with a command, which clap can say of an argument alone and not of a group of them.
    #[arg(long, value_name = "NAME", value_parser = metric, required = true)]
    pub metric: Option<Metric>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// How far ahead to forecast
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length)]
    pub horizon: i64,
    /// Length of a step, over which the mean is taken; from rollups where it is whole hours
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = length)]
    pub step: i64,
    /// Lengths of one or two seasons, the second where there is enough history [default: 24h,7d; for longer steps than 12h: 7d]
    #[arg(long, value_name = "LENGTH,…", value_delimiter = ',', value_parser = length)]
    pub season: Vec<i64>,
    /// How much of the past to use
    #[arg(long, value_name = "LENGTH", default_value = "30d", value_parser = length)]
    pub history: i64,
    /// Forecast as of this time in the past
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Forecasting model
    #[arg(long, value_enum, default_value_t)]
    pub model: ModelArg,
    /// Share of values that intervals should contain, such as 0.95 or 95
    #[arg(long, value_name = "0-1|PERCENT", default_value = "0.95", value_parser = level)]
    pub level: f64,
    /// Show when the metric rises above this value
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite, conflicts_with = "below")]
    pub above: Option<f64>,
    /// Show when the metric falls below this value
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub below: Option<f64>,
    /// Show how each model would have performed, instead of the forecast
    #[arg(long)]
    pub backtest: bool,
    /// Store the forecast in the table iot_forecasts, for the time of forecast.retention
    #[arg(long, conflicts_with = "backtest")]
    pub store: bool,
    /// Serve the forecast to Prometheus on this address until Ctrl-C, renewed --every so often; a port alone is on 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address, conflicts_with_all = ["backtest", "plot", "at"])]
    pub metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// How often the forecast is renewed
    #[arg(long, value_name = "LENGTH", default_value = "15m", value_parser = length, requires = "metrics_addr")]
    pub every: i64,
    #[command(flatten)]
    pub zone: ZoneArgs,
    #[command(flatten)]
    pub plot: PlotArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ModelArg {
    /// The model with the smallest past error
    #[default]
    Auto,
    /// The value one season ago
    SeasonalNaive,
    /// Exponential smoothing of level and trend
    Ets,
    /// Seasons by MSTL, the rest by ETS
    Mstl,
    /// Seasons by MSTL, the rest by an autoregressive process
    MstlAr,
    /// The mean of mstl, mstl-ar and the value one long season ago
    Mean,
    /// Trend with change points and a Fourier season; needs a build with --features prophet
    Prophet,
}

/// A share, or from 50 on percent.
fn level(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    match number.map(|number| if number >= 50.0 { number / 100.0 } else { number }) {
        Some(level) if (0.5..1.0).contains(&level) => Ok(level),
        _ => Err("not a share from 0.5 to less than 1, and not 50 to less than 100 percent".to_owned()),
    }
}

fn models(asked: ModelArg) -> Vec<Model> {
    match asked {
        ModelArg::Auto => Model::all(),
        ModelArg::SeasonalNaive => vec![Model::SeasonalNaive],
        ModelArg::Ets => vec![Model::Ets],
        ModelArg::Mstl => vec![Model::Mstl],
        ModelArg::MstlAr => vec![Model::MstlAr],
        ModelArg::Mean => vec![Model::Mean],
        ModelArg::Prophet => vec![Model::Prophet],
    }
}

/// The seasons of `--season` in steps, all in milliseconds.
fn seasons(lengths: &[i64], step: i64) -> Result<Seasons, UsageError> {
    let refuse = |message: &str| Err(UsageError::new(message.to_owned()));
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let (short, long) = match *lengths {
        // Days and weeks, as far as steps of this length can have them.
        [] if step <= DAY / 2 => (DAY, Some(7 * DAY)),
        [] => (7 * DAY, None),
        [short] => (short, None),
        [short, long] => (short, Some(long)),
        _ => return refuse("--season takes one length or two (such as 24h,7d)"),
    };
    if short % step != 0 || short < 2 * step {
        return refuse("--season must be a multiple of --step and at least two steps long");
    }
    if long.is_some_and(|long| long % short != 0 || long <= short) {
        return refuse("the second length of --season must be a multiple of the first, and longer");
    }
    let steps = |length: i64| usize::try_from(length / step).unwrap_or(usize::MAX);
    Ok(Seasons { short: steps(short), long: long.map(steps) })
}

impl QuestionArgs {
    fn metric(&self) -> Result<&Metric, UsageError> {
        self.metric.as_ref().ok_or_else(|| UsageError::new("--metric is missing"))
    }

    fn plan(&self) -> Result<Plan, UsageError> {
        let refuse = |message: &str| Err(UsageError::new(message.to_owned()));
        let seasons = seasons(&self.season, self.step)?;
        if self.horizon < self.step {
            return refuse("--horizon is shorter than one --step");
        }
        if self.backtest && self.model != ModelArg::Auto {
            return refuse("--backtest tries every model (leave --model out)");
        }
        let horizon = usize::try_from(self.horizon / self.step).unwrap_or(usize::MAX);
        Ok(Plan { models: models(self.model), horizon, seasons, level: self.level })
    }

    fn limit(&self) -> Option<(f64, Direction)> {
        let above = self.above.map(|limit| (limit, Direction::Above));
        above.or(self.below.map(|limit| (limit, Direction::Below)))
    }
}

/// The flags, checked.
struct Question {
    args: QuestionArgs,
    metric: Metric,
    plan: Plan,
}

/// A forecast and what it was made from.
struct Made {
    found: Forecast,
    series: Regular,
    groups: Vec<Arc<Group>>,
    /// Where the past ends, in milliseconds since the epoch.
    to: i64,
    made_at: i64,
}

pub async fn run(args: ForecastArgs, context: Context) -> anyhow::Result<()> {
    match args.command {
        Some(ForecastCommand::Score(args)) => score::run(args, context).await,
        None => answer(args.question, context).await,
    }
}

async fn answer(args: QuestionArgs, context: Context) -> anyhow::Result<()> {
    let output = &context.output;
    let now = Utc::now().timestamp_millis();
    let zone = args.zone.zone()?;
    let at = match &args.at {
        None => now,
        Some(text) => {
            time::moment(text, zone, now).map_err(|error| UsageError::new(format!("--at: {error}")))?
        }
    };
    let mut question = Question { plan: args.plan()?, metric: args.metric()?.clone(), args };
    let session = Session::connect(&context.config.cassandra).await?;
    until_stopped(&context.shutdown, question.args.selection.find_sensor(&session)).await?;
    let spinner = output.spinner("reading past data and testing models on it");
    let made = question.answer(&session, at, now, &context).await;
    spinner.finish_and_clear();
    let made = made?;
    let args = &question.args;
    let metric = &question.metric;
    if let Some(address) = args.metrics_addr {
        return question.export(&session, address, made, &context).await;
    }
    let asked = Asked { groups: &made.groups, sensor: args.selection.sensor_id(), chosen: None };
    let units = until_stopped(&context.shutdown, Units::of(&session, asked, metric)).await?;
    units.remark(metric).into_iter().for_each(|remark| output.note(remark));
    let measured = (metric, units.one());
    if args.backtest {
        report::print_backtests(&made.found.backtests, args, output)?;
    } else if args.plot.plot.is_some() {
        args.plot.show(&report::picture(&made.found, &made.series, args, measured, zone), output)?;
    } else {
        report::print(&made.found, args, measured, zone, output)?;
    }
    if args.store {
        question.store(&session, &made, &context).await?;
        output.note("stored in iot_forecasts");
    }
    report::remark(&made.found, &made.series, args, made.to, zone, output);
    Ok(())
}

impl Question {
    /// Forecasts from what was before `at`.
    async fn answer(&self, session: &Session, at: i64, now: i64, context: &Context) -> anyhow::Result<Made> {
        let Self { args, plan, metric } = self;
        let shutdown = &context.shutdown;
        let groups = until_stopped(shutdown, args.selection.one_group(session)).await?;
        // A step that is not over yet would look like a fall or a rise.
        let zone = args.zone.zone()?;
        let range = History::range_before(at, args.history, args.step, zone);
        let to = range.to;
        let history = History {
            groups: groups.clone(),
            sensor: args.selection.sensor_id(),
            metric: metric.clone(),
            range,
            step: args.step,
            zone,
        };
        let Some(series) = until_stopped(shutdown, history.read(session)).await? else {
            let selection = args.selection.group.selection();
            until_stopped(shutdown, selection.explain_absence(session)).await?;
            let names = until_stopped(shutdown, metric_names::other_metric_names(session, &groups)).await?;
            known_or_refused(metric, &names, groups.len())?;
            anyhow::bail!(
                "no reading has {metric} in the {} before {} (see `iotctl stats --by day`, or ask for a longer --history)",
                exact(Duration::from_millis(args.history.unsigned_abs())),
                zone.show(to)
            );
        };
        let fitted = {
            let (series, plan) = (series.clone(), plan.clone());
            until_stopped(shutdown, blocking(move || forecast(&series, &plan))).await?
        };
        let found = fitted.map_err(|error| UsageError::new(error.to_string()))?;
        Ok(Made { found, series, groups, to, made_at: now })
    }

    async fn store(&self, session: &Session, made: &Made, context: &Context) -> anyhow::Result<()> {
        let subject = Subject {
            group: newest(&made.groups)?,
            sensor: self.args.selection.sensor_id(),
            metric: &self.metric,
            made_at: made.made_at,
            model: made.found.model.name(),
            step: self.args.step,
            level: self.args.level,
        };
        let retention = context.config.forecast.retention;
        until_stopped(&context.shutdown, forecasts::store(session, &subject, &made.found.steps, retention))
            .await
    }

    /// Serves the forecast to Prometheus and renews it at the interval, until Ctrl-C.
    async fn export(
        &self,
        session: &Session,
        address: SocketAddr,
        mut made: Made,
        context: &Context,
    ) -> anyhow::Result<()> {
        let args = &self.args;
        let group = newest(&made.groups)?;
        let sensor = args.selection.sensor_id().map(|sensor| sensor.to_string()).unwrap_or_default();
        let metrics = ForecastMetrics::new(&[
            ("location", &group.location),
            ("device_type", &group.device_type),
            ("iot_sensor_id", &sensor),
            ("metric", self.metric.name()),
        ])?;
        let health = Health::default();
        let registry = metrics.registry.clone();
        let every = exact(Duration::from_millis(args.every.unsigned_abs()));
        let remark = format!(", renewed every {every}, until Ctrl-C");
        serve_metrics(address, args.listen, registry, &health, &remark, context).await?;
        loop {
            let crossing = args.limit().map(|(limit, direction)| {
                (Crossing::of(&made.found.steps, limit, direction), direction.name(), limit)
            });
            metrics.set(&made.found, made.made_at, args.step, crossing);
            health.set_ready();
            if args.store
                && let Err(error) = self.store(session, &made, context).await
                && !context.shutdown.is_requested()
            {
                warn!("cannot store the forecast: {error:#}");
                metrics.failures.inc();
            }
            made = loop {
                let wait = tokio::time::sleep(Duration::from_millis(args.every.unsigned_abs()));
                tokio::select! {
                    () = wait => {}
                    () = context.shutdown.requested() => return Ok(()),
                }
                let now = Utc::now().timestamp_millis();
                match self.answer(session, now, now, context).await {
                    Ok(made) => break made,
                    Err(_) if context.shutdown.is_requested() => return Ok(()),
                    Err(error) => {
                        warn!("cannot forecast, retrying in {every}: {error:#}");
                        metrics.failures.inc();
                    }
                }
            };
        }
    }
}

/// The group to store a forecast under: of a sensor that was moved, the last one by name.
fn newest(groups: &[Arc<Group>]) -> anyhow::Result<&Arc<Group>> {
    groups.last().ok_or_else(|| anyhow::anyhow!("no group to store a forecast for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_seasons_are_those_that_steps_of_this_length_can_have() {
        const HOUR: i64 = 60 * 60 * 1000;
        for (step, short, long) in [
            (HOUR, 24, Some(168)),
            (12 * HOUR, 2, Some(14)),
            (24 * HOUR, 7, None),
            (HOUR / 12, 288, Some(2016)),
        ] {
            let found = seasons(&[], step).unwrap();
            assert_eq!((found.short, found.long), (short, long), "{step}");
        }
        assert!(seasons(&[24 * HOUR], 24 * HOUR).is_err());
    }
}
