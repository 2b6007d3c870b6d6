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
/// Without a range it is about the last seven days.
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
    check_output(&args.output, args.force)?;
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

/// Before the figures are gathered, which can take minutes.
fn check_output(path: &Path, force: bool) -> Result<(), UsageError> {
    if path.is_dir() {
        return Err(UsageError::new(format!("{} is a folder (name a file)", path.display())));
    }
    if path.exists() && !force {
        return Err(exists(path));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(UsageError::new(format!(
            "cannot write {}: the folder {} does not exist",
            path.display(),
            folder.display()
        ))),
        _ => Ok(()),
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
    fn where_a_report_cannot_be_written_is_said_before_the_figures_are_gathered() {
        let folder = tempfile::tempdir().unwrap();
        let said =
            |name: &str, force| check_output(&folder.path().join(name), force).unwrap_err().to_string();
        assert!(said("", true).ends_with("is a folder (name a file)"));
        assert!(said("missing/report.html", true).ends_with("missing does not exist"));
        std::fs::write(folder.path().join("there.html"), "").unwrap();
        assert!(said("there.html", false).contains("--force"));
        check_output(&folder.path().join("there.html"), true).unwrap();
        check_output(&folder.path().join("new.html"), false).unwrap();
        check_output(Path::new("new.html"), false).unwrap();
    }

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
