//! `iotctl up`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct UpArgs {}

pub async fn run(_args: UpArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
