//! `iotctl simulate`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct SimulateArgs {}

pub async fn run(_args: SimulateArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
