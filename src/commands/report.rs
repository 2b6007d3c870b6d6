//! `iotctl report`: one page about a range of time.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;

use super::Context;
use super::flags::{GroupArgs, TimeArgs, length, metric};
use super::support::until_stopped;
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::reading::Metric;
use crate::report::{Question, gather, page};
use crate::time::{self, TimeRange};

/// Write one page about a range of time, for the meeting of a shift.
///
/// The page has the health of the fleet, silent sensors, alerts, and by metric a chart, statistics, extremes, anomalies and
/// forecasts, and the dead letters. It is a single HTML file that loads nothing; a browser prints it on A4.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl report --location plant-1 --last 7d --output report.html
  iotctl report --last 24h --metric temperature,rpm --local --output report.html --force")]
pub struct ReportArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Metrics to report [default: the columns that have values]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = metric)]
    pub metric: Vec<Metric>,
    /// Minimum silence at the end of the range
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = length)]
    pub silent_after: i64,
    /// HTML file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// The range where none is given.
const USUAL: &str = "7d";

pub async fn run(args: ReportArgs, context: Context) -> anyhow::Result<()> {
    let output = &context.output;
    if args.output.exists() && !args.force {
        return Err(exists(&args.output).into());
    }
    let now = Utc::now().timestamp_millis();
    let question = Question {
        selection: args.group.selection(),
        range: range(&args.time, now)?,
        zone: args.time.zone()?,
        now,
        metrics: args.metric.clone(),
        silent_after: args.silent_after,
    };
    let session = Session::connect(&context.config.cassandra).await?;
    let spinner = output.spinner("gathering figures");
    let gathered = gather(&question, &session, &context.config, &context.shutdown);
    let report = until_stopped(&context.shutdown, gathered).await;
    spinner.finish_and_clear();
    let report = report?;
    if report.groups.is_empty() {
        question.selection.explain_absence(&session).await?;
    }
    write(&args.output, &page(&report), args.force)?;
    output.note(format!("report in {}", args.output.display()));
    Ok(())
}

/// A range that has both ends, the end not after `now`.
fn range(args: &TimeArgs, now: i64) -> Result<TimeRange, UsageError> {
    let range = args.range(now)?;
    let to = range.to.min(now);
    let from = match (&args.from, &args.last) {
        (None, None) => {
            let usual = time::length(USUAL).map_err(|error| UsageError::new(error.to_string()))?;
            to.saturating_sub(usual)
        }
        _ => range.from,
    };
    match from < to {
        true => Ok(TimeRange { from, to }),
        false => Err(UsageError::new("the range has not begun yet (give an earlier --from)")),
    }
}

fn exists(path: &Path) -> UsageError {
    UsageError::new(format!(
        "{} already exists (use --force to overwrite it, or another path)",
        path.display()
    ))
}

fn write(path: &Path, page: &str, force: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).truncate(force);
    match force {
        true => options.create(true),
        false => options.create_new(true),
    };
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(path).into()),
        opened => opened.with_context(cannot)?,
    };
    file.write_all(page.as_bytes()).and_then(|()| file.flush()).with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_both_ends_and_ends_now_at_the_latest() {
        const DAY: i64 = 86_400_000;
        let now = 1_790_812_800_000;
        let of = |from: Option<&str>, last: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            range(&TimeArgs { from: text(from), last: text(last), ..TimeArgs::default() }, now)
        };
        assert_eq!(of(None, None).unwrap(), TimeRange { from: now - 7 * DAY, to: now });
        assert_eq!(of(None, Some("1d")).unwrap(), TimeRange { from: now - DAY, to: now });
        assert_eq!(of(Some("2026-09-30"), None).unwrap(), TimeRange { from: now - DAY, to: now });
        assert!(of(Some("2027-01-01"), None).unwrap_err().to_string().contains("--from"));
    }
}
