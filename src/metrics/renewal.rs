//! Whether passwords and certificates that changed in their files are in use. There is one set of these metrics for the whole process,
//! because all clients of a server share its files.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// The servers that clients log in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Cassandra,
    Kafka,
}

impl Server {
    fn label(self) -> &'static str {
        match self {
            Self::Cassandra => "cassandra",
            Self::Kafka => "kafka",
        }
    }

    /// A changed password or certificate is in use.
    pub(crate) fn note_accepted(self) {
        RENEWALS.accepted.with_label_values(&[self.label()]).inc();
        RENEWALS.refused.with_label_values(&[self.label()]).set(0);
    }

    /// A changed password or certificate cannot be used, and the one before is kept.
    pub(crate) fn note_refused(self) {
        RENEWALS.refused.with_label_values(&[self.label()]).set(1);
    }
}

struct Renewals {
    accepted: IntCounterVec,
    refused: IntGaugeVec,
}

static RENEWALS: LazyLock<Renewals> = LazyLock::new(|| {
    let accepted = Opts::new(
        "iotctl_credentials_renewals_total",
        "Times that a password or certificate that changed in its file was taken into use",
    );
    let refused = Opts::new(
        "iotctl_credentials_refused",
        "1 while a password or certificate that changed in its file cannot be used, and the one before is kept",
    );
    let renewals = Renewals {
        accepted: IntCounterVec::new(accepted, &["server"]).expect("a valid name"),
        refused: IntGaugeVec::new(refused, &["server"]).expect("a valid name"),
    };
    for server in [Server::Cassandra, Server::Kafka] {
        renewals.accepted.with_label_values(&[server.label()]);
        renewals.refused.with_label_values(&[server.label()]);
    }
    renewals
});

/// Into the registry of a process.
pub(crate) fn register(registry: &Registry) -> prometheus::Result<()> {
    collectors().into_iter().try_for_each(|collector| registry.register(collector))
}

pub(crate) fn collectors() -> [Box<dyn Collector>; 2] {
    [Box::new(RENEWALS.accepted.clone()), Box::new(RENEWALS.refused.clone())]
}
