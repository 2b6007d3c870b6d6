//! `iotctl top`: a live view of the whole platform.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::Context;
use crate::error::UsageError;
use crate::observe::top;

/// Show rates, lag and nodes live.
///
/// `produced` is the growth of the topic, `consumed` that of the consumer group's committed offsets. `mutations` and each
/// node's writes count what the nodes stored; a batch for one partition counts once. Latencies cover about the last five
/// minutes. Keys: q or Esc quits, p pauses, Tab switches between nodes and partitions, arrows select a row.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl top
  iotctl top --interval 5s
  NO_COLOR=1 iotctl top
  iotctl status                 # the same once, for scripts and pipes")]
pub struct TopArgs {
    /// Time between two updates, 500ms to 1m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1s")]
    pub interval: Duration,
}

pub async fn run(args: TopArgs, context: Context) -> anyhow::Result<()> {
    if !(Duration::from_millis(500)..=Duration::from_secs(60)).contains(&args.interval) {
        return Err(UsageError::new("--interval must be between 500ms and 1m").into());
    }
    if !context.output.stdout_is_terminal || !std::io::stdin().is_terminal() {
        return Err(UsageError::new(
            "`iotctl top` needs a terminal (use `iotctl status`, or `iotctl status --format json`)",
        )
        .into());
    }
    top::run(&context.config, args.interval, context.output.color, &context.shutdown).await
}
