//! Which peers a node hears, by their heartbeats in its gossip.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::node::Member;

/// Gossip advances a node's heartbeat every second and reaches every node within a few seconds.
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(15);

/// When each node last saw each peer's heartbeat advance. Gossip keeps the last heartbeat of a dead peer, so a
/// heartbeat that does not advance is the only sign visible over CQL.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    seen: HashMap<(SocketAddr, IpAddr), ((i32, i32), Instant)>,
}

impl Heartbeats {
    /// Whether the node sees the peer alive. A new peer has until the deadline to advance.
    pub(super) fn note(&mut self, node: SocketAddr, peer: &Member, now: Instant) -> bool {
        let (heartbeat, advanced) = self.seen.entry((node, peer.address)).or_insert((peer.heartbeat, now));
        if *heartbeat != peer.heartbeat {
            (*heartbeat, *advanced) = (peer.heartbeat, now);
        }
        !peer.is_shut_down && now.duration_since(*advanced) < HEARTBEAT_DEADLINE
    }

    pub(super) fn forget_all_but(&mut self, nodes: &[SocketAddr]) {
        self.seen.retain(|(node, _), _| nodes.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(heartbeat: i32, is_shut_down: bool) -> Member {
        let address = "127.0.0.2".parse().unwrap();
        Member { address, heartbeat: (1, heartbeat), is_shut_down, load: None }
    }

    #[test]
    fn a_peer_whose_heartbeat_stops_is_down_and_up_again_once_it_advances() {
        let node = "127.0.0.1:9042".parse().unwrap();
        let (mut heartbeats, start) = (Heartbeats::default(), Instant::now());
        let mut note = |seconds, heartbeat, is_shut_down| {
            let now = start + Duration::from_secs(seconds);
            heartbeats.note(node, &member(heartbeat, is_shut_down), now)
        };
        assert!(note(0, 5, false));
        assert!(note(14, 5, false));
        assert!(!note(15, 5, false));
        assert!(note(16, 6, false));
        assert!(!note(17, 7, true), "a node that announces its shutdown is down at once");
    }

    #[test]
    fn a_peer_of_a_node_that_does_not_answer_is_not_remembered() {
        let (one, two) = ("127.0.0.1:9042".parse().unwrap(), "127.0.0.3:9042".parse().unwrap());
        let mut heartbeats = Heartbeats::default();
        heartbeats.note(one, &member(1, false), Instant::now());
        heartbeats.note(two, &member(1, false), Instant::now());
        heartbeats.forget_all_but(&[two]);
        assert_eq!(heartbeats.seen.len(), 1);
    }
}
