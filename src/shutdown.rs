//! One way to say "stop": a token that SIGINT and SIGTERM cancel and that every long wait listens to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Cancelled on the first SIGINT or SIGTERM. A second signal ends the process at once with the shell's code for it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    interrupts: Arc<Interrupts>,
}

/// SIGINT where a prompt has claimed it.
#[derive(Debug, Default)]
struct Interrupts {
    are_claimed: AtomicBool,
    arrived: Notify,
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
        let (token, interrupts) = (shutdown.token.clone(), shutdown.interrupts.clone());
        tokio::spawn(async move {
            let mut signals = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {
                        if interrupts.are_claimed.load(Ordering::Relaxed) {
                            interrupts.arrived.notify_waiters();
                            continue;
                        }
                    }
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

    /// From now on SIGINT does not request shutdown, but ends the work that waits for [`Self::interrupted`].
    pub fn claim_interrupts(&self) {
        self.interrupts.are_claimed.store(true, Ordering::Relaxed);
    }

    /// Resolves at the next SIGINT after [`Self::claim_interrupts`].
    pub async fn interrupted(&self) {
        self.interrupts.arrived.notified().await;
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
