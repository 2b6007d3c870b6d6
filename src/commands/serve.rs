//! `iotctl serve`: the tables for PostgreSQL's clients.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::Context;
use super::flags::listen_address;
use crate::error::UsageError;

/// Serve the tables to PostgreSQL's clients. Only in builds with it (cargo build --features sql).
///
/// Clients see the tables and functions of `iotctl sql` and can change nothing. Each has a session of its own. Any user name and
/// password is accepted, so it listens on this machine only: other machines reach it through ssh.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl serve --pg 5433                       # on 127.0.0.1, until Ctrl-C
  iotctl serve --pg 5433 --max-clients 10 --timeout 30s
  psql 'host=127.0.0.1 port=5433 dbname=iotctl user=me' -c 'SELECT * FROM latest LIMIT 5'
  ssh -L 5433:127.0.0.1:5433 HOST              # the tables of another machine")]
pub struct ServeArgs {
    /// Address to serve PostgreSQL's protocol on; a port alone is on 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address, default_value = "127.0.0.1:5433")]
    pub pg: SocketAddr,
    /// Maximum number of clients at the same time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_clients: u16,
    /// Stop a statement after this time
    #[arg(long, value_name = "LENGTH", default_value = "1m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Maximum number of rows of an answer
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub max_rows: u64,
    /// Memory of all clients for sorting, joining and grouping; beyond it, they write to temporary files
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub memory: ByteSize,
}

pub async fn run(args: ServeArgs, context: Context) -> anyhow::Result<()> {
    if !args.pg.ip().is_loopback() {
        return Err(UsageError::new(
            "--pg has neither TLS nor a login, so it is served on this machine only (give 127.0.0.1, and reach it from \
             others by `ssh -L 5433:127.0.0.1:5433 HOST`)",
        )
        .into());
    }
    serve(args, context).await
}

#[cfg(feature = "sql")]
async fn serve(args: ServeArgs, context: Context) -> anyhow::Result<()> {
    use super::support::until_stopped;
    use crate::cassandra::Session;
    use crate::sql::server::Server;
    use crate::sql::{Bounds, Engine, Limits};

    let Context { config, output, shutdown, .. } = context;
    let session = until_stopped(&shutdown, Session::connect(&config.cassandra)).await?;
    let memory = usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX);
    let bounds = Bounds { time: args.timeout, rows: usize::try_from(args.max_rows).unwrap_or(usize::MAX) };
    let engine = Engine::new(session, config, Limits { memory, bounds, ..Limits::default() })?;
    let server = Server::bind(args.pg, engine, args.max_clients.into()).await?;
    let address = server.address()?;
    output.note(format!(
        "PostgreSQL's clients: psql 'host={} port={} dbname=iotctl user=me', until Ctrl-C",
        address.ip(),
        address.port()
    ));
    server.serve(&shutdown).await;
    Ok(())
}

#[cfg(not(feature = "sql"))]
async fn serve(_: ServeArgs, _: Context) -> anyhow::Result<()> {
    Err(super::support::without_sql().into())
}
