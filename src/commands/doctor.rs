//! `iotctl doctor`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::flags::PlaceArgs;
use super::support;
use crate::error::Interrupted;
use crate::observe::doctor::{self, Check, Verdict};
use crate::output::text::{plural, visible};
use crate::output::{Output, Paint, ReportFormat};

/// Check the installation and say how to fix it.
///
/// Checks servers, schema, replicas, clocks, retention, disk and encryption, and changes nothing. Checks that cannot run are
/// reported as skipped, with the reason. Exit code 1 when a check failed; warnings alone are exit code 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl doctor
  iotctl doctor --format json | jq '.checks[] | select(.verdict == \"failed\")'
  iotctl doctor --format json | jq -r '.checks[] | select(.remedy) | \"\\(.name): \\(.remedy)\"'")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

pub async fn run(args: DoctorArgs, context: Context) -> anyhow::Result<()> {
    let mut servers = support::servers(&args.place, &context);
    let spinner = context.output.spinner("running the checks");
    let examined = tokio::select! {
        examined = doctor::examine(&mut servers) => Ok(examined),
        () = context.shutdown.requested() => Err(Interrupted),
    };
    spinner.finish_and_clear();
    let (status, checks) = examined?;
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Failed), count(Verdict::Warning));
    match args.format {
        ReportFormat::Json => {
            let counts =
                json!({ "failed": failed, "warnings": warnings, "skipped": count(Verdict::Skipped) });
            context.output.json(&json!({ "at": status.at, "counts": counts, "checks": checks }))?;
        }
        ReportFormat::Table => {
            context.output.print(list(&checks, &context.output))?;
            context.output.print(format!(
                "\n{} ok, {}, {failed} failed, {} skipped",
                count(Verdict::Ok),
                plural(warnings, "warning"),
                count(Verdict::Skipped)
            ))?;
        }
    }
    anyhow::ensure!(
        failed == 0,
        "{} failed (the remedy is below each failed check)",
        plural(failed, "check")
    );
    Ok(())
}

/// One line per check, and another for a remedy: remedies are long, and a table would break them.
fn list(checks: &[Check], output: &Output) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let mut group = "";
    for check in checks {
        if check.group != group {
            group = check.group;
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(output.bold(group));
        }
        let paint = match check.verdict {
            Verdict::Ok => Paint::Green,
            Verdict::Skipped => Paint::Dim,
            Verdict::Warning => Paint::Yellow,
            Verdict::Failed => Paint::Red,
        };
        let verdict = output.paint(paint, &format!("{:<7}", check.verdict.name()));
        let indent = width + 13;
        let found = output.hanging(&visible(&check.found), indent);
        lines.push(format!("  {verdict}  {:<width$}  {found}", check.name));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("{:indent$}→ {}", "", output.hanging(&visible(remedy), indent + 2)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ColorChoice;

    #[test]
    fn each_check_has_its_verdict_and_its_remedy_below_it() {
        let check = |group, name, verdict, remedy: Option<&str>| Check {
            group,
            name,
            verdict,
            found: format!("found {name}"),
            remedy: remedy.map(str::to_owned),
        };
        let checks = [
            check("machine", "java", Verdict::Ok, None),
            check("kafka", "retention", Verdict::Failed, Some("do this")),
        ];
        let text = list(&checks, &Output::new(ColorChoice::Never, false));
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "machine",
                "  ok       java       found java",
                "",
                "kafka",
                "  failed   retention  found retention",
                "                      → do this",
            ]
        );
        assert!(list(&checks, &Output::new(ColorChoice::Always, false)).contains("\x1b[31mfailed"));
    }
}
