//! `iotctl down`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct DownArgs {}

pub async fn run(_args: DownArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
