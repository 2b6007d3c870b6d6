//! `iotctl ingest`.

use clap::Args;

use super::Context;

#[derive(Debug, Args)]
pub struct IngestArgs {}

pub async fn run(_args: IngestArgs, _context: Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
