//! Diagnostics: `tracing` to stderr, warnings of this crate by default, more with `-v` or IOTCTL_LOG.

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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
