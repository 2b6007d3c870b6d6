//! Diagnostics: `tracing` to stderr, warnings of this crate by default, more with `-v` or IOTCTL_LOG.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use super::text;

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
        false => Box::new(Visible(io::stderr())),
    }
}

/// Escapes what reorders text. `tracing` writes an event as a whole and escapes control characters by itself; the escape
/// sequences that are left are its colours.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(text::visible_colored(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_logged_name_can_neither_steer_the_terminal_nor_reorder_the_line() {
        for is_colored in [true, false] {
            let written = Shared::default();
            let target = written.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || Visible(target.clone()))
                .with_ansi(is_colored)
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(location = "plant\u{202e}1", "group \u{2066}x\u{1b}[2J");
            });
            let line = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(line.contains("plant\\u{202e}1") && line.contains("group \\u{2066}x"), "{line:?}");
            assert!(!line.contains("\u{1b}[2J") && line.contains("[2J"), "{line:?}");
            assert_eq!(line.contains('\u{1b}'), is_colored, "{line:?}");
            assert!(line.ends_with('\n'), "{line:?}");
        }
    }
}
