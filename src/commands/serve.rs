//! `iotctl serve`: the tables for PostgreSQL's clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::Context;
use super::flags::{ListenArgs, listen_address};
#[cfg(feature = "sql")]
use crate::error::UsageError;

/// Serve the tables to PostgreSQL's clients. Only in builds with it (cargo build --features sql).
///
/// Clients see the tables and functions of `iotctl sql` and can change nothing. Each has a session of its own. Without a users
/// file any user name and password is accepted, so it listens on this machine only: other machines reach it through ssh. With
/// --users, clients log in (SCRAM-SHA-256) and see the locations of their user. Other addresses than those of this machine need
/// --users and a certificate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl serve --pg 5433                       # on 127.0.0.1, until Ctrl-C
  iotctl serve --pg 5433 --max-clients 10 --timeout 30s
  psql 'host=127.0.0.1 port=5433 dbname=iotctl user=me' -c 'SELECT * FROM latest LIMIT 5'
  iotctl serve user grafana --location 'plant-*' >> users.toml         # asks for the password
  iotctl serve --pg 0.0.0.0:5433 --users users.toml --tls-certificate server.crt --tls-key server.key
  ssh -L 5433:127.0.0.1:5433 HOST              # the tables of another machine")]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServeArgs {
    #[command(subcommand)]
    pub command: Option<ServeCommand>,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub enum ServeCommand {
    User(UserArgs),
}

/// Print the entry of a user for the users file.
///
/// The password is asked for on a terminal, else it is the first line of the standard input. The entry holds a SCRAM-SHA-256
/// verifier, with which nobody can log in. Entries of PostgreSQL itself (pg_authid.rolpassword) fit too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl serve user grafana --location '*' >> users.toml
  iotctl serve user plant-1 --location plant-1 --location 'hall-*' < password.txt >> users.toml")]
pub struct UserArgs {
    /// Name of the user
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Location that the user sees; `*` stands for any text, and alone for everything; repeatable
    #[arg(long = "location", value_name = "PATTERN", required = true)]
    pub locations: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ServerArgs {
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
    /// File of the users that may log in (see `iotctl serve user`); read again when it changes
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// Certificate of the server in PEM, its chain after it; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Serve Prometheus metrics at this address; a port alone means 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address)]
    pub metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    pub listen: ListenArgs,
}

pub async fn run(args: ServeArgs, context: Context) -> anyhow::Result<()> {
    match args.command {
        Some(ServeCommand::User(args)) => user(&args, &context),
        None => serve(args.server, context).await,
    }
}

/// What an address that others reach needs.
#[cfg(feature = "sql")]
fn check(args: &ServerArgs) -> Result<(), UsageError> {
    let missing = match (&args.users, &args.tls_certificate) {
        _ if args.pg.ip().is_loopback() => return Ok(()),
        (Some(_), Some(_)) => return Ok(()),
        (None, Some(_)) => "--users FILE (make its entries by `iotctl serve user NAME`)",
        (Some(_), None) => "--tls-certificate FILE and --tls-key FILE",
        (None, None) => {
            "a login and TLS: --users FILE (its entries by `iotctl serve user NAME`), --tls-certificate FILE and \
                         --tls-key FILE"
        }
    };
    Err(UsageError::new(format!(
        "--pg {}: other machines reach this address, so it needs {missing}; or give 127.0.0.1, and reach it from others by \
         `ssh -L 5433:127.0.0.1:5433 HOST`",
        args.pg
    )))
}

#[cfg(feature = "sql")]
async fn serve(args: ServerArgs, context: Context) -> anyhow::Result<()> {
    use super::support::{serve_metrics, until_stopped};
    use crate::cassandra::Session;
    use crate::metrics::Health;
    use crate::sql::server::{Options, ServeMetrics, Server};
    use crate::sql::{Bounds, Engine, Limits};

    check(&args)?;
    let metrics = ServeMetrics::new()?;
    let health = Health::default();
    let session = until_stopped(&context.shutdown, Session::connect(&context.config.cassandra)).await?;
    let memory = usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX);
    let bounds = Bounds { time: args.timeout, rows: usize::try_from(args.max_rows).unwrap_or(usize::MAX) };
    let engine =
        Engine::new(session, context.config.clone(), Limits { memory, bounds, ..Limits::default() })?;
    let has_login = args.users.is_some();
    let options = Options {
        address: args.pg,
        max_clients: args.max_clients,
        users: args.users,
        tls: args.tls_certificate.zip(args.tls_key),
    };
    let server = Server::bind(options, engine, metrics.clone()).await?;
    let address = server.address()?;
    if let Some(address) = args.metrics_addr {
        serve_metrics(address, args.listen, metrics.registry, &health, "", &context).await?;
    }
    health.set_ready();
    context.output.note(format!(
        "PostgreSQL's clients: psql 'host={} port={} dbname=iotctl user={}', until Ctrl-C",
        address.ip(),
        address.port(),
        if has_login { "NAME" } else { "me" },
    ));
    server.serve(&context.shutdown).await;
    Ok(())
}

#[cfg(feature = "sql")]
fn user(args: &UserArgs, context: &Context) -> anyhow::Result<()> {
    use crate::sql::server::{Verifier, user_entry};

    if args.name.is_empty() || args.name.contains('\0') {
        return Err(UsageError::new("the name of a user must not be empty").into());
    }
    let password = password(&args.name)?;
    let verifier = Verifier::of(&password).map_err(anyhow::Error::msg)?;
    context.output.print(user_entry(&args.name, &verifier, &args.locations))?;
    Ok(())
}

/// From the terminal, twice and without showing it, or the first line of the standard input.
#[cfg(feature = "sql")]
fn password(name: &str) -> anyhow::Result<String> {
    use std::io::{BufRead, IsTerminal, Read};

    /// Longer lines are not passwords.
    const MOST_BYTES: u64 = 4096;
    let empty = || UsageError::new("the password is empty (its first line on the standard input is taken)");
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().take(MOST_BYTES).read_line(&mut line)?;
        let password = line.trim_end_matches(['\r', '\n']).to_owned();
        return if password.is_empty() { Err(empty().into()) } else { Ok(password) };
    }
    let terminal = console::Term::stderr();
    let ask = |text: &str| {
        terminal.write_str(text)?;
        terminal.read_secure_line()
    };
    let password = ask(&format!("Password of {name}: "))?;
    if password.is_empty() {
        return Err(empty().into());
    }
    match ask("Once more: ")? == password {
        true => Ok(password),
        false => Err(UsageError::new("the two passwords are not the same").into()),
    }
}

#[cfg(not(feature = "sql"))]
async fn serve(_: ServerArgs, _: Context) -> anyhow::Result<()> {
    Err(super::support::without_sql().into())
}

#[cfg(not(feature = "sql"))]
fn user(_: &UserArgs, _: &Context) -> anyhow::Result<()> {
    Err(super::support::without_sql().into())
}
