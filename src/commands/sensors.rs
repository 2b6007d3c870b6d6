//! `iotctl sensors`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct SensorsArgs {}

pub async fn run(_args: SensorsArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
