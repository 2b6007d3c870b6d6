//! `iotctl forecast score`: how good forecasts of a file would have been, without a server.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::super::Context;
use super::super::flags::{ZoneArgs, length};
use super::super::recorded::{columns, input, row_error};
use super::super::support::{blocking, rounded, until_stopped};
use super::{ModelArg, level, models, seasons};
use crate::error::UsageError;
use crate::forecasts::recorded::{Score, score};
use crate::forecasts::{ForecastError, Plan};
use crate::output::record::{Cell, Heading};
use crate::output::text::plural;
use crate::output::{Format, Output};
use crate::series::recorded::{Rows, points};
use crate::series::{Regular, usual_step};
use crate::time::Zone;

/// Score forecasts of a CSV file of recorded values, without a server.
///
/// Forecasts are made from several past moments (origins), each from the values before it alone; their intervals come from the
/// errors that were known then. The line `auto` takes at each origin the model that had the smallest error until then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl forecast score machine.csv --map timestamp=recorded_timestamp,value=value
  iotctl forecast score load.csv --horizon 48h --origins 40 --level 90 --format json
  iotctl forecast score load.csv --model mstl-ar --output forecasts.csv

MASE divides the mean absolute error by that of repeating the last season: below 1 is better. sMAPE is in percent. RMSE and width
are in the unit of the values. Coverage is the share of values within their intervals, which should be the level.")]
pub struct ScoreArgs {
    /// CSV file with a heading line; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Columns of the time and the value, such as timestamp=recorded_timestamp,temp=value [default: the columns of these names]
    #[arg(long, value_name = "COLUMN=FIELD", value_delimiter = ',')]
    pub map: Vec<String>,
    /// How far ahead to forecast
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length)]
    pub horizon: i64,
    /// Length of a step, over which the mean is taken [default: the usual distance of the rows]
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub step: Option<i64>,
    /// Lengths of one or two seasons, the second where there is enough history [default: 24h,7d; for longer steps than 12h: 7d]
    #[arg(long, value_name = "LENGTH,…", value_delimiter = ',', value_parser = length)]
    pub season: Vec<i64>,
    /// Forecasting model
    #[arg(long, value_enum, default_value_t)]
    pub model: ModelArg,
    /// Share of values that intervals should contain, such as 0.95 or 95
    #[arg(long, value_name = "0-1|PERCENT", default_value = "0.95", value_parser = level)]
    pub level: f64,
    /// Maximum number of origins that are scored, the latest ones
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub origins: u16,
    /// Time between two origins [default: the horizon and a step, so that origins are at all hours of the day]
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub every: Option<i64>,
    /// Also write each forecast of the model (of the choice, for auto) to this file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) async fn run(args: ScoreArgs, context: Context) -> anyhow::Result<()> {
    let zone = args.zone.zone()?;
    let output = context.output;
    let read = {
        let (file, map) = (args.file.clone(), columns(&args.map)?);
        blocking(move || read(&file, &map))
    };
    let points = until_stopped(&context.shutdown, read).await??;
    let Some(step) = args.step.or_else(|| usual_step(&points)) else {
        return Err(UsageError::new("the file has fewer than two values").into());
    };
    let refuse = |message: &str| Err(UsageError::new(message.to_owned()).into());
    if args.horizon < step {
        return refuse("--horizon is shorter than one step");
    }
    let seasons = seasons(&args.season, step)?;
    let in_steps = |length: i64| usize::try_from(length / step).unwrap_or(usize::MAX).max(1);
    let horizon = in_steps(args.horizon);
    let plan = Plan { models: models(args.model), horizon, seasons, level: args.level };
    let every = args.every.map_or(horizon + 1, in_steps);
    let series =
        Regular::on_clock(&points, step, zone).map_err(|error| UsageError::new(error.to_string()))?;
    let Some(series) = series else { return refuse("the file has no value") };
    let spinner = output.spinner("forecasting from past moments");
    let scored = blocking(move || score(&series, &plan, usize::from(args.origins), every));
    let scored = until_stopped(&context.shutdown, scored).await;
    spinner.finish_and_clear();
    let (scores, left_out) = scored?.map_err(|error| match error {
        ForecastError::TooShort { has, needs, horizon } => UsageError::new(format!(
            "not enough history: {}, at least {needs} are needed to score forecasts of {horizon} (use a shorter \
             --horizon, --every or --season)",
            plural(has, "step")
        )),
        error => UsageError::new(error.to_string()),
    })?;
    print(&scores, &args, zone, &output)?;
    for error in left_out {
        output.note(format!("left out: {error}"));
    }
    if let (Some(path), Some(chosen)) = (&args.output, scores.last()) {
        write(chosen, path, zone).with_context(|| format!("cannot write {}", path.display()))?;
        output.note(format!("{} forecasts by {} in {}", chosen.steps.len(), name(chosen), path.display()));
    }
    Ok(())
}

fn read(file: &Path, map: &[(String, String)]) -> anyhow::Result<Vec<crate::series::Point>> {
    let (name, input) = input(file)?;
    Rows::of(input, map).and_then(points).map_err(|error| row_error(&name, error))
}

fn name(score: &Score) -> &'static str {
    score.model.map_or("auto", crate::forecasts::Model::name)
}

fn print(scores: &[Score], args: &ScoreArgs, zone: Zone, output: &Output) -> anyhow::Result<()> {
    if args.format == Format::Json {
        let models: Vec<_> = scores
            .iter()
            .map(|score| {
                json!({
                    "model": name(score),
                    "origins": score.origins,
                    "mase": score.scaled_error,
                    "smape": score.percentage_error,
                    "rmse": score.root_mean_square,
                    "coverage": score.coverage,
                    "width": score.width,
                })
            })
            .collect();
        return output.json(&json!({ "level": args.level, "models": models }));
    }
    let headings = vec![
        Heading::left("model"),
        Heading::right("origins"),
        Heading::right("mase").titled("MASE"),
        Heading::right("smape").titled("sMAPE"),
        Heading::right("rmse").titled("RMSE"),
        Heading::right("coverage").titled(format!("coverage (of {}%)", rounded(args.level * 100.0))),
        Heading::right("width"),
    ];
    let mut records = output.records(args.format, zone, headings)?;
    for score in scores {
        let figure = |value: f64| match value.is_finite() {
            true => Cell::Number(rounded(value)),
            false => Cell::Missing,
        };
        records.write(&[
            Cell::Text(name(score)),
            Cell::Count(score.origins as u64),
            figure(score.scaled_error),
            figure(score.percentage_error),
            figure(score.root_mean_square),
            figure(score.coverage),
            figure(score.width),
        ])?;
    }
    records.finish()?;
    Ok(())
}

/// `origin,timestamp,value,forecast,lower,upper`, a line for each step.
fn write(score: &Score, path: &Path, zone: Zone) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "origin,timestamp,value,forecast,lower,upper")?;
    for step in &score.steps {
        let (origin, at) = (zone.show(step.origin), zone.show(step.at));
        writeln!(file, "{origin},{at},{},{},{},{}", step.value, step.forecast, step.low, step.high)?;
    }
    file.flush()?;
    Ok(())
}
