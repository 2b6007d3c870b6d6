//! One way to say "stop": a token that SIGINT and SIGTERM cancel and that every long wait listens to.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled on the first SIGINT or SIGTERM. A second signal ends the process at once with the shell's code for it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A token that no signal cancels; for tests and for steps that run inside another command.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token wired to this process's signals. Call once, from within the runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = shutdown.token.clone();
        tokio::spawn(async move {
            let mut signals = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                signals += 1;
                token.cancel();
                if signals > 1 {
                    std::process::exit(crate::error::EXIT_INTERRUPTED.into());
                }
            }
        });
        Ok(shutdown)
    }

    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks everything that listens to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Resolves once shutdown has been requested.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }
}
