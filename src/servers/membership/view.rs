//! What every node says of every node. Nobody knows a cluster as a whole: a node that looks well from here may be dead
//! to its neighbour, so each is asked for its own view, which is the gossip it has heard.
//!
//! Whether a node is alive is told by its heartbeat, which it raises each second: in the view of a node that hears it,
//! it rises between two looks. That finds a frozen node within seconds, sooner than the nodes' own failure detectors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cassandra::system::{self, GossipState};
use crate::cassandra::{Error, Session};

/// How long a node may take to say what it knows.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long a heartbeat may stand still. A node raises its own each second, and in a large cluster word takes a while.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(8);
const LOOK_INTERVAL: Duration = Duration::from_millis(700);

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Normal,
    /// Streaming the data that it will own.
    Joining,
    /// Streaming its data to the others.
    Leaving,
    Moving,
    /// Gone for good; the others remember it for three days.
    Left,
    /// It said goodbye, to come back.
    Shutdown,
    /// It has not said yet.
    Unknown,
}

impl State {
    /// From gossip's `status_with_port`, such as "NORMAL,-9223372036854775808".
    fn parse(text: Option<&str>) -> Self {
        match text.and_then(|text| text.split(',').next()) {
            Some("NORMAL") => Self::Normal,
            Some("BOOT" | "BOOT_REPLACE") => Self::Joining,
            Some("LEAVING") => Self::Leaving,
            Some("MOVING") => Self::Moving,
            Some("LEFT" | "removed" | "removing") => Self::Left,
            Some("shutdown") => Self::Shutdown,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Joining => "joining",
            Self::Leaving => "leaving",
            Self::Moving => "moving",
            Self::Left => "left",
            Self::Shutdown => "shut down",
            Self::Unknown => "unknown",
        }
    }
}

/// A node in another's eyes, or in its own.
#[derive(Debug, Clone, PartialEq)]
pub struct GossipEntry {
    pub host_id: Option<Uuid>,
    pub state: State,
    heartbeat: i32,
    /// Since the first look.
    is_alive: bool,
    schema: Option<String>,
    load_bytes: Option<f64>,
    datacenter: Option<String>,
    rack: Option<String>,
    version: Option<String>,
    native: Option<SocketAddr>,
}

/// A node as all the others see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Where clients connect.
    pub address: SocketAddr,
    pub host_id: Option<Uuid>,
    /// In the view of most.
    pub state: State,
    /// Nodes that hear it, of those that were asked.
    pub heard_by: usize,
    pub asked: usize,
    pub load_bytes: Option<f64>,
    pub tokens: usize,
    /// Its share of the ring as the first replica.
    pub owns: f64,
    pub schema_version: Option<String>,
    pub datacenter: Option<String>,
    pub rack: Option<String>,
    pub version: Option<String>,
    /// Whether it answered when it was asked for its own view.
    pub answers: bool,
}

impl Member {
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub fn is_up(&self) -> bool {
        self.heard_by == self.asked && self.asked > 0
    }

    pub fn is_well(&self) -> bool {
        self.is_up() && self.state == State::Normal && self.answers
    }
}

/// The cluster in the eyes of all nodes that could be asked. Nodes that left are not in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct View {
    pub members: Vec<Member>,
    /// Where the nodes disagree, in words.
    pub disagreements: Vec<String>,
}

type Gossip = BTreeMap<IpAddr, GossipEntry>;

impl View {
    /// Asks every node, and again until each heartbeat that rises has risen.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn read(session: &Session) -> Result<Self, Error> {
        await_connections(session).await;
        let mut first = look(session).await?;
        let started = Instant::now();
        loop {
            sleep(LOOK_INTERVAL).await;
            let mut views = look(session).await?;
            for (node, gossip) in &views {
                first.entry(*node).or_insert_with(|| gossip.clone());
            }
            let mut is_settled = true;
            for (node, gossip) in &mut views {
                let earlier = first.get(node);
                for (ip, seen) in gossip.iter_mut() {
                    let before = earlier.and_then(|earlier| earlier.get(ip)).map(|seen| seen.heartbeat);
                    // A node that started again counts from the beginning.
                    seen.is_alive = before.is_some_and(|before| before != seen.heartbeat);
                    is_settled &= seen.is_alive || seen.state == State::Left;
                }
            }
            if is_settled || started.elapsed() > HEARTBEAT_PATIENCE {
                let tokens = tokens(session).await?;
                return Ok(Self::combine(&views, &tokens));
            }
        }
    }

    fn combine(views: &BTreeMap<SocketAddr, Gossip>, tokens: &BTreeMap<IpAddr, Vec<i64>>) -> Self {
        let ips: BTreeSet<IpAddr> = views.values().flat_map(|gossip| gossip.keys().copied()).collect();
        let owned = ownership(tokens);
        let mut members = Vec::new();
        let mut disagreements = Vec::new();
        for ip in ips {
            let seen: Vec<(&SocketAddr, &GossipEntry)> =
                views.iter().filter_map(|(node, gossip)| Some((node, gossip.get(&ip)?))).collect();
            let own = seen.iter().find(|(node, _)| node.ip() == ip);
            let state = own.map_or_else(|| commonest(&seen), |(_, seen)| seen.state);
            // Of a node that left, the others' memories fade at different times.
            if state == State::Left || seen.iter().all(|(_, seen)| seen.state == State::Left) {
                continue;
            }
            for (node, seen) in seen.iter().filter(|(_, seen)| seen.state != state) {
                let (theirs, own) = (seen.state.name(), state.name());
                disagreements.push(format!("{ip} is {own}, and {theirs} in the view of {}", node.ip()));
            }
            for node in views.iter().filter(|(_, gossip)| !gossip.contains_key(&ip)).map(|(node, _)| node) {
                disagreements.push(format!("{} does not know {ip}", node.ip()));
            }
            let best = own.or(seen.first()).map(|(_, seen)| *seen);
            let port = views.keys().next().map_or(9042, SocketAddr::port);
            let address = best.and_then(|seen| seen.native).unwrap_or_else(|| SocketAddr::new(ip, port));
            members.push(Member {
                address: SocketAddr::new(ip, address.port()),
                host_id: best.and_then(|seen| seen.host_id),
                state,
                heard_by: seen.iter().filter(|(_, seen)| seen.is_alive).count(),
                asked: views.len(),
                load_bytes: best.and_then(|seen| seen.load_bytes),
                tokens: tokens.get(&ip).map_or(0, Vec::len),
                owns: owned.get(&ip).copied().unwrap_or(0.0),
                schema_version: best.and_then(|seen| seen.schema.clone()),
                datacenter: best.and_then(|seen| seen.datacenter.clone()),
                rack: best.and_then(|seen| seen.rack.clone()),
                version: best.and_then(|seen| seen.version.clone()),
                answers: own.is_some(),
            });
        }
        Self { members, disagreements }
    }

    pub fn member(&self, ip: IpAddr) -> Option<&Member> {
        self.members.iter().find(|member| member.ip() == ip)
    }

    /// The schema versions of the nodes that answer.
    pub fn schema_versions(&self) -> BTreeSet<&str> {
        let answering = self.members.iter().filter(|member| member.answers);
        answering.filter_map(|member| member.schema_version.as_deref()).collect()
    }
}

fn commonest(seen: &[(&SocketAddr, &GossipEntry)]) -> State {
    let count = |state| seen.iter().filter(|(_, seen)| seen.state == state).count();
    seen.iter().map(|(_, seen)| seen.state).max_by_key(|state| count(*state)).unwrap_or(State::Unknown)
}

/// Each node's share of the ring as first replica, from 0 to 1.
fn ownership(tokens: &BTreeMap<IpAddr, Vec<i64>>) -> BTreeMap<IpAddr, f64> {
    let mut ring: Vec<(i64, IpAddr)> =
        tokens.iter().flat_map(|(ip, tokens)| tokens.iter().map(|token| (*token, *ip))).collect();
    ring.sort_unstable();
    let mut owned = BTreeMap::new();
    for (index, (token, ip)) in ring.iter().enumerate() {
        let (before, _) = ring[(index + ring.len() - 1) % ring.len()];
        // Around the end of the ring; all of it where there is one token.
        let width = token.wrapping_sub(before).cast_unsigned();
        let share = if ring.len() == 1 { 1.0 } else { width as f64 / u64::MAX as f64 };
        *owned.entry(*ip).or_insert(0.0) += share;
    }
    owned
}

/// A session that was just made has one connection; the others follow within moments.
async fn await_connections(session: &Session) {
    for _ in 0..20 {
        if session.nodes().iter().all(|node| node.is_up) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The gossip that each node has heard, of the nodes that answer.
async fn look(session: &Session) -> Result<BTreeMap<SocketAddr, Gossip>, Error> {
    let nodes = session.nodes();
    let asked = nodes.iter().map(|node| system::gossip(session, node.address, ANSWER_DEADLINE));
    let mut views = BTreeMap::new();
    let mut last = None;
    for (node, answer) in nodes.iter().zip(join_all(asked).await) {
        match answer {
            Ok(states) => {
                let gossip: Gossip = states.into_iter().map(seen).collect();
                // Through a forwarded port it has another address to us than to its peers.
                let own = gossip.iter().find(|(_, seen)| seen.host_id == Some(node.host_id));
                let ip = own.map_or(node.address.ip(), |(ip, _)| *ip);
                views.insert(SocketAddr::new(ip, node.address.port()), gossip);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if views.is_empty() => Err(error),
        _ => Ok(views),
    }
}

fn seen(member: GossipState) -> (IpAddr, GossipEntry) {
    let seen = GossipEntry {
        host_id: member.host_id,
        state: State::parse(member.status.as_deref()),
        heartbeat: member.heartbeat.unwrap_or(0),
        is_alive: false,
        schema: member.schema,
        load_bytes: member.load_bytes,
        datacenter: member.datacenter,
        rack: member.rack,
        version: member.version,
        native: member.native,
    };
    (member.address, seen)
}

/// The state of one node in the view of another; `None` where that one does not know it.
pub async fn state_at(session: &Session, asked: SocketAddr, node: IpAddr) -> Result<Option<State>, Error> {
    let members = system::gossip(session, asked, ANSWER_DEADLINE).await?;
    let found = members.iter().find(|member| member.address == node);
    Ok(found.map(|member| State::parse(member.status.as_deref())))
}

/// The tokens of each node, as one of them knows them.
async fn tokens(session: &Session) -> Result<BTreeMap<IpAddr, Vec<i64>>, Error> {
    let mut last = None;
    for node in session.nodes() {
        match tokens_at(session, node.address).await {
            Ok(tokens) => return Ok(tokens),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::Setting("there is no node to ask".into())))
}

/// The tokens of each node in the view of `node`.
pub async fn tokens_at(session: &Session, node: SocketAddr) -> Result<BTreeMap<IpAddr, Vec<i64>>, Error> {
    system::tokens(session, node, ANSWER_DEADLINE).await
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn at(last: u8) -> SocketAddr {
        SocketAddr::new(ip(last), 9042)
    }

    fn seen_as(state: State, is_alive: bool) -> GossipEntry {
        GossipEntry {
            host_id: None,
            state,
            heartbeat: 1,
            is_alive,
            schema: Some("v1".into()),
            load_bytes: Some(1e6),
            datacenter: Some("dc1".into()),
            rack: Some("rack1".into()),
            version: Some("5.0.6".into()),
            native: None,
        }
    }

    /// A view of nodes 127.0.0.1 and so on, of which each sees the others in the same state.
    pub fn view(states: &[State]) -> View {
        let gossip: Gossip =
            (1..).zip(states).map(|(last, state)| (ip(last), seen_as(*state, true))).collect();
        let views = (1..).zip(states).map(|(last, _)| (at(last), gossip.clone())).collect();
        let tokens = (1..).zip(states).map(|(last, _)| (ip(last), vec![i64::from(last)])).collect();
        View::combine(&views, &tokens)
    }

    #[test]
    fn gossips_words_are_states() {
        for (text, state) in [
            (Some("NORMAL,-1727235487603802862"), State::Normal),
            (Some("BOOT,1"), State::Joining),
            (Some("BOOT_REPLACE,127.0.0.3"), State::Joining),
            (Some("LEAVING,1"), State::Leaving),
            (Some("LEFT,1,1700000000"), State::Left),
            (Some("shutdown,true"), State::Shutdown),
            (Some("hibernate,true"), State::Unknown),
            (None, State::Unknown),
        ] {
            assert_eq!(State::parse(text), state, "{text:?}");
        }
    }

    #[test]
    fn a_node_is_up_only_where_everybody_hears_it() {
        let mut gossip: Gossip =
            [(ip(1), seen_as(State::Normal, true)), (ip(2), seen_as(State::Normal, true))].into();
        let first = (at(1), gossip.clone());
        gossip.insert(ip(1), seen_as(State::Normal, false));
        let views = BTreeMap::from([first, (at(2), gossip)]);
        let view = View::combine(&views, &BTreeMap::new());
        let up: Vec<_> = view.members.iter().map(Member::is_up).collect();
        assert_eq!(up, [false, true]);
        assert_eq!(view.members[0].heard_by, 1);
    }

    #[test]
    fn disagreement_is_told_and_who_left_is_forgotten() {
        let one: Gossip = [
            (ip(1), seen_as(State::Normal, true)),
            (ip(2), seen_as(State::Leaving, true)),
            (ip(9), seen_as(State::Left, false)),
        ]
        .into();
        let two: Gossip = [(ip(2), seen_as(State::Normal, true))].into();
        let view = View::combine(&BTreeMap::from([(at(1), one), (at(2), two)]), &BTreeMap::new());
        assert_eq!(view.members.len(), 2);
        let expected = [
            "127.0.0.2 does not know 127.0.0.1",
            "127.0.0.2 is normal, and leaving in the view of 127.0.0.1",
        ];
        assert_eq!(view.disagreements, expected);
    }

    #[test]
    fn shares_of_the_ring_sum_to_one() {
        let owned = ownership(&BTreeMap::from([(ip(1), vec![0]), (ip(2), vec![i64::MAX])]));
        assert!((owned[&ip(1)] - 0.5).abs() < 1e-9 && (owned[&ip(2)] - 0.5).abs() < 1e-9, "{owned:?}");
        assert_eq!(ownership(&BTreeMap::from([(ip(1), vec![7])]))[&ip(1)], 1.0);
        let three =
            ownership(&BTreeMap::from([(ip(1), vec![-5, 9]), (ip(2), vec![4]), (ip(3), vec![i64::MIN])]));
        assert!((three.values().sum::<f64>() - 1.0).abs() < 1e-9, "{three:?}");
    }
}
