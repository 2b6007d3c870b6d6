//! What all operations on the membership share: the session, the journals and the waits.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::time::sleep;

use super::checks::all_is_quiet;
use super::view::{self, State, View};
use crate::cassandra::Session;
use crate::config::CassandraConfig;
use crate::error::Interrupted;
use crate::output::Output;
use crate::shutdown::Shutdown;

const POLL: Duration = Duration::from_secs(1);
/// How long nodes may take to agree on who is who, once the data has moved.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(120);

/// A node that streams nothing for this long needs an operator.
pub const STALL_DEADLINE: Duration = Duration::from_secs(30 * 60);

pub struct Operator {
    pub session: Session,
    pub cassandra: CassandraConfig,
    pub journals: PathBuf,
    pub output: Output,
    pub shutdown: Shutdown,
}

impl Operator {
    /// Connects to these nodes instead of the configured contact points.
    pub async fn connect(
        contact_points: Vec<String>,
        cassandra: &CassandraConfig,
        journals: PathBuf,
        output: Output,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let cassandra = CassandraConfig { contact_points, ..cassandra.clone() };
        let session = Session::connect(&cassandra).await?;
        Ok(Self { session, cassandra, journals, output, shutdown })
    }

    /// The state of a node in the view of the others; `None` where it is unknown to them.
    pub async fn state_of(&self, node: IpAddr) -> anyhow::Result<Option<State>> {
        let others = self.session.nodes().into_iter().filter(|other| other.address.ip() != node);
        let mut last = None;
        for other in others {
            match view::state_at(&self.session, other.address, node).await {
                Ok(state) => return Ok(state),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.into()),
            None => bail!("no other node can be asked about {node}"),
        }
    }

    /// Waits one second, or ends the run after a shutdown request: the cluster continues without iotctl.
    pub async fn pause(&self, continues: &str) -> anyhow::Result<()> {
        tokio::select! {
            () = sleep(POLL) => Ok(()),
            () = self.shutdown.requested() => {
                self.output.note(format!("{continues}; run the same command again to finish"));
                Err(Interrupted.into())
            }
        }
    }

    /// Waits until every node is up and normal in every node's view, `meets` holds, and the schema is one.
    pub async fn await_agreement(&self, meets: impl Fn(&View) -> Option<String>) -> anyhow::Result<View> {
        let started = Instant::now();
        loop {
            let view = View::read(&self.session).await?;
            let mut reasons = all_is_quiet(&view, None);
            reasons.extend(meets(&view));
            if reasons.is_empty() {
                return Ok(view);
            }
            if started.elapsed() > AGREEMENT_DEADLINE {
                let within = humantime::format_duration(AGREEMENT_DEADLINE);
                bail!(
                    "the nodes do not agree within {within}: {} (run the same command again)",
                    reasons.join("; ")
                );
            }
            self.pause("the nodes do not agree yet").await?;
        }
    }
}
