//! The disk that a folder lies on.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Room on a file system; what only root may use is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

pub fn of(folder: &Path) -> anyhow::Result<Disk> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .with_context(|| format!("cannot look at the disk of {}", folder.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Ok(Disk { free_bytes: bytes(stat.blocks_available()), total_bytes: bytes(stat.blocks()) })
}
