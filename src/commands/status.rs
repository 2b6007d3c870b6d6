//! `iotctl status`.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use comfy_table::Table;

use super::Context;
use super::up::PlaceArgs;
use crate::local::{self, ServerStatus, State};
use crate::output;

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: StatusFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum StatusFormat {
    #[default]
    Table,
    Json,
}

pub async fn run(args: StatusArgs, context: Context) -> anyhow::Result<()> {
    let config = args.place.configure(&context.config.local);
    let servers = local::status(&config).await?;
    match args.format {
        StatusFormat::Json => context.output.json(&servers)?,
        StatusFormat::Table if servers.is_empty() => {}
        StatusFormat::Table => context.output.print(table(&servers).to_string())?,
    }
    if servers.is_empty() {
        context.output.note("no servers here (start some with `iotctl up`)");
    } else if servers.iter().any(|server| matches!(server.state, State::Stopped | State::Crashed)) {
        context.output.note("`iotctl up` starts what does not run");
    }
    Ok(())
}

/// What runs where, for `up` and `status`.
pub fn table(servers: &[ServerStatus]) -> Table {
    let headings = ["server", "address", "state", "pid", "memory", "up", "log"];
    let mut table = output::table::table(&headings, &[3, 4, 5]);
    for server in servers {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.add_row([
            server.server.clone(),
            server.address.to_string(),
            server.state.to_string(),
            or_dash(server.pid.map(|pid| pid.to_string())),
            or_dash(server.resident_bytes.map(|bytes| ByteSize::b(bytes).display().iec().to_string())),
            or_dash(server.uptime_seconds.map(uptime)),
            server.log.display().to_string(),
        ]);
    }
    table
}

/// The two largest units: "2days 3h", "5m 12s".
fn uptime(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
