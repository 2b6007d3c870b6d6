//! `iotctl demo`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct DemoArgs {}

pub async fn run(_args: DemoArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
