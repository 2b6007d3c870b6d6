//! `status`: what runs, where, and how it is.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::Utc;
use futures::future::join_all;
use serde::Serialize;

use super::cluster::{Cluster, Server};
use super::layout::Layout;
use super::process::Process;
use super::{Kind, ready};
use crate::config::LocalConfig;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs and answers.
    Running,
    /// It runs and does not answer: it is still booting, or hangs.
    Silent,
    /// `down` ended it.
    Stopped,
    /// It ended by itself.
    Crashed,
}

/// One server as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    pub server: String,
    pub kind: Kind,
    pub address: SocketAddr,
    pub state: State,
    pub pid: Option<i32>,
    pub resident_bytes: Option<u64>,
    pub uptime_seconds: Option<u64>,
    pub log: PathBuf,
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Running => "running",
            Self::Silent => "no answer",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
        })
    }
}

/// Every server of the data directory; empty where no `up` has come to its end.
pub async fn status(config: &LocalConfig) -> anyhow::Result<Vec<ServerStatus>> {
    let layout = Layout::of(config)?;
    let Some(cluster) = Cluster::load(&layout)? else { return Ok(Vec::new()) };
    let processes = Process::all(&layout)?;
    if processes.is_empty() && !cluster.is_complete {
        return Ok(Vec::new());
    }
    let servers = cluster.servers(config)?;
    let looks = servers.iter().map(|server| {
        let process = processes.iter().find(|process| process.name == server.name);
        look(&layout, server, process)
    });
    Ok(join_all(looks).await)
}

async fn look(layout: &Layout, server: &Server, process: Option<&Process>) -> ServerStatus {
    let alive = process.filter(|process| process.is_alive());
    // A server that runs is where it was started, whatever the configuration says since.
    let address = process.map_or(server.address, |process| process.address);
    let state = match (alive, process) {
        (Some(_), _) if ready::answers(server.kind, address).await => State::Running,
        (Some(_), _) => State::Silent,
        (None, Some(_)) => State::Crashed,
        (None, None) => State::Stopped,
    };
    ServerStatus {
        server: server.name.clone(),
        kind: server.kind,
        address,
        state,
        pid: alive.map(|process| process.pid),
        resident_bytes: alive.and_then(Process::resident_bytes),
        uptime_seconds: alive.and_then(|process| {
            u64::try_from(Utc::now().signed_duration_since(process.started_at).num_seconds()).ok()
        }),
        log: layout.log(&server.name),
    }
}
