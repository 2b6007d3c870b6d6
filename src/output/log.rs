//! Diagnostics: `tracing` to stderr, warnings of this crate by default, more with `-v` or IOTCTL_LOG.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

/// Whether a full-screen view has the terminal, which lines of a log would disturb.
static IS_HELD: AtomicBool = AtomicBool::new(false);

/// Keeps the log off the terminal while it lives; a log that goes to a file continues.
#[derive(Debug)]
pub struct Hold(());

impl Hold {
    pub fn terminal() -> Self {
        IS_HELD.store(io::stderr().is_terminal(), Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        IS_HELD.store(false, Ordering::Relaxed);
    }
}

fn writer() -> Box<dyn Write> {
    match IS_HELD.load(Ordering::Relaxed) {
        true => Box::new(io::sink()),
        false => Box::new(io::stderr()),
    }
}

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
        .with_writer(writer)
        .with_ansi(is_colored)
        .with_target(false)
        .init();
}
