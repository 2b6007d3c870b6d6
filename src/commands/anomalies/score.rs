//! `iotctl anomalies score`: a score for each row of a file, without a server.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::super::Context;
use super::super::recorded::{columns, input, row_error};
use super::super::support::{blocking, until_stopped};
use super::sensitivity;
use crate::anomalies::Sensitivity;
use crate::anomalies::recorded::{self, Method, RecordedError};
use crate::output::closed;
use crate::output::text::{one_or_many, plural};

/// Score each row of a CSV file by the rows before it, without a server.
///
/// Writes the columns timestamp, value and anomaly_score. The score is between 0 and 1 and needs no later row; 0.5 or more is an
/// alarm, as `ingest --detect` raises it by the rule `online`. The 150 rows after an alarm belong to it and have the score 0,
/// as have rows without a value and rows that are not newer than an earlier one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl anomalies score machine.csv --map timestamp=recorded_timestamp,value=value --output scores.csv
  iotctl anomalies score machine.csv --method robust-z --output - | head")]
pub struct ScoreArgs {
    /// CSV file with a heading line; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Columns of the time and the value, such as timestamp=recorded_timestamp,temp=value [default: the columns of these names]
    #[arg(long, value_name = "COLUMN=FIELD", value_delimiter = ',')]
    pub map: Vec<String>,
    /// Detection method
    #[arg(long, value_enum, default_value_t)]
    pub method: Method,
    /// How small a deviation counts, above 0 and up to 1 [default: 0.5]
    #[arg(long, value_name = "0-1", value_parser = sensitivity)]
    pub sensitivity: Option<Sensitivity>,
    /// File to write, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

pub(super) async fn run(args: ScoreArgs, context: Context) -> anyhow::Result<()> {
    let map = columns(&args.map)?;
    let output = context.output;
    let scored = blocking(move || write(&args, &map, output));
    let counts = until_stopped(&context.shutdown, scored).await??;
    let recorded::Counts { rows, alarms, without_value, not_newer } = counts;
    output.note(format!("{}, {} (a score of 0.5 or more)", plural(rows, "row"), plural(alarms, "alarm")));
    if without_value > 0 {
        output.note(one_or_many(
            without_value,
            "row has no value: its score is 0",
            "rows have no value: their score is 0",
        ));
    }
    if not_newer > 0 {
        output.note(format!(
            "{} 0 (sort the file by time, and keep one row per moment)",
            one_or_many(
                not_newer,
                "row is not newer than an earlier row: its score is",
                "rows are not newer than an earlier row: their score is"
            )
        ));
    }
    Ok(())
}

fn write(
    args: &ScoreArgs,
    map: &[(String, String)],
    output: crate::output::Output,
) -> anyhow::Result<recorded::Counts> {
    let is_pipe = |path: &Path| path == Path::new("-");
    let (name, input) = input(&args.file)?;
    let sensitivity = args.sensitivity.unwrap_or(Sensitivity::DEFAULT);
    let score = |target: &mut dyn io::Write| recorded::score(input, map, args.method, sensitivity, target);
    let explain = |error: RecordedError| match error {
        RecordedError::Row(error) => row_error(&name, error),
        RecordedError::Unwritable(error) if is_pipe(&args.output) => {
            closed(Err::<(), _>(error)).err().unwrap_or_else(|| anyhow::anyhow!("cannot write to stdout"))
        }
        RecordedError::Unwritable(error) => {
            anyhow::Error::new(error).context(format!("cannot write {}", args.output.display()))
        }
    };
    if is_pipe(&args.output) {
        let mut stdout = output.stream();
        let counts = score(&mut stdout).map_err(explain)?;
        closed(stdout.flush())?;
        return Ok(counts);
    }
    let cannot = || format!("cannot write {}", args.output.display());
    let mut target = BufWriter::new(File::create(&args.output).with_context(cannot)?);
    let counts = score(&mut target).map_err(explain)?;
    target.flush().with_context(cannot)?;
    Ok(counts)
}
