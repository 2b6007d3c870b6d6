//! `iotctl config show|init`.

use clap::Subcommand;

use crate::config::Sources;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective values with their origin
    Show,
}

pub fn run(_command: ConfigCommand, _sources: &Sources, _output: &Output) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
