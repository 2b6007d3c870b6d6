//! `iotctl query`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct QueryArgs {}

pub async fn run(_args: QueryArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
