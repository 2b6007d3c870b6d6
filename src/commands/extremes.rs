//! `iotctl extremes`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct ExtremesArgs {}

pub async fn run(_args: ExtremesArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
