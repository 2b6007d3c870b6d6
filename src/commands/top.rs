//! `iotctl top`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::Context;
use crate::error::UsageError;
use crate::observe::top;

/// A live view of rates, lag, nodes and partitions on the whole screen.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl top
  iotctl top --interval 5s
  NO_COLOR=1 iotctl top
  iotctl status                 the same once, for a script or a pipe")]
pub struct TopArgs {
    /// How often to look, 500ms to 1m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1s")]
    pub interval: Duration,
}

pub async fn run(args: TopArgs, context: Context) -> anyhow::Result<()> {
    if !(Duration::from_millis(500)..=Duration::from_secs(60)).contains(&args.interval) {
        return Err(UsageError::new("--interval lies between 500ms and 1m").into());
    }
    if !context.output.stdout_is_terminal || !std::io::stdin().is_terminal() {
        return Err(UsageError::new(
            "`iotctl top` draws on a terminal, and this is none (use `iotctl status`, or `iotctl status --format json`)",
        )
        .into());
    }
    top::run(&context.config, args.interval, context.output.color, &context.shutdown).await
}
