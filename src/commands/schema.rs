//! `iotctl schema apply|show|check`.

use clap::Subcommand;

use super::Context;

#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Create what is missing; never drops
    Apply,
}

pub async fn run(_command: SchemaCommand, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
