//! `iotctl status`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct StatusArgs {}

pub async fn run(_args: StatusArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
