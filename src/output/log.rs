//! Diagnostics: `tracing` to stderr, warnings of this crate by default, more with `-v` or IOTCTL_LOG.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Call once. IOTCTL_LOG (tracing's filter syntax) overrides `verbose`.
pub fn init(verbose: u8) {
    let default = match verbose {
        0 => "iotctl=warn",
        1 => "iotctl=info,librdkafka=warn,cdrs_tokio=warn",
        2 => "iotctl=debug,librdkafka=info,cdrs_tokio=info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("IOTCTL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let is_colored =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_colored)
        .with_target(false)
        .init();
}
