//! How far the streaming of a joining or leaving node is, from the senders' own books (`system_views.streaming`).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration};

use crate::cassandra::{Error, Session, system};
use crate::output::text::plural;

const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// Which way the node's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the others to the node.
    In,
    /// From the node to the others.
    Out,
}

/// What has been sent, and what is known to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub of_bytes: u64,
    pub files: u64,
    pub of_files: u64,
}

impl Progress {
    /// Of all streams to or from `node` that were at work after `since`, in milliseconds since the epoch.
    pub async fn read(session: &Session, node: IpAddr, direction: Direction, since: i64) -> Self {
        let mut progress = Self::default();
        let senders = session.nodes().into_iter().map(|sender| sender.address);
        for sender in senders.filter(|sender| (sender.ip() == node) == (direction == Direction::Out)) {
            // A sender that does not answer now is asked again with the next look.
            if let Ok(sent) = sent(session, sender, node, direction, since).await {
                progress.bytes += sent.bytes;
                progress.of_bytes += sent.of_bytes;
                progress.files += sent.files;
                progress.of_files += sent.of_files;
            }
        }
        progress
    }

    /// "12.3 MiB of 40.0 MiB, 7 of 30 files, 20 seconds to go".
    pub fn describe(&self, started: Instant) -> String {
        if self.of_bytes == 0 {
            return "streaming has not begun".into();
        }
        let Self { bytes, of_bytes, files, of_files } = *self;
        let rest =
            match started.elapsed().mul_f64(of_bytes.saturating_sub(bytes) as f64 / bytes.max(1) as f64) {
                _ if bytes == 0 || bytes >= of_bytes => String::new(),
                rest => format!(", {} to go", HumanDuration(rest)),
            };
        format!("{} of {}, {files} of {of_files} files{rest}", HumanBytes(bytes), HumanBytes(of_bytes))
    }
}

/// "12.3 MiB in 7 files".
impl std::fmt::Display for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} in {}", HumanBytes(self.bytes), plural(self.files, "file"))
    }
}

async fn sent(
    session: &Session,
    sender: SocketAddr,
    node: IpAddr,
    direction: Direction,
    since: i64,
) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    let peer = format!("/{node}:");
    for stream in system::streams(session, sender, ANSWER_DEADLINE).await? {
        let is_meant = direction == Direction::Out || stream.peers.iter().any(|found| found.contains(&peer));
        if !is_meant || stream.updated_at.is_none_or(|at| at < since) {
            continue;
        }
        progress.bytes += stream.bytes_sent;
        progress.of_bytes += stream.bytes_to_send;
        progress.files += stream.files_sent;
        progress.of_files += stream.files_to_send;
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_with_what_is_left() {
        let progress = Progress { bytes: 1 << 20, of_bytes: 2 << 20, files: 1, of_files: 3 };
        let started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        assert_eq!(progress.describe(started), "1.00 MiB of 2.00 MiB, 1 of 3 files, 10 seconds to go");
        assert_eq!(Progress::default().describe(started), "streaming has not begun");
        let done = Progress { bytes: 5, of_bytes: 5, files: 3, of_files: 3 };
        assert_eq!(done.describe(started), "5 B of 5 B, 3 of 3 files");
    }
}
