//! Birth certificates: the names and data types that an edge node or a device announces, so that later messages leave them out.
//!
//! Data are read by the last birth that is not younger than they are, by the payloads' own times. So a message means the same
//! whenever it is read, as long as that birth is known. Only a dead letter that is replayed may be read by a younger one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::payload::Payload;
use crate::mapping::Record;

/// Memory for the births of all nodes, in bytes, roughly. A birth beyond it is not kept, and what needs it is a dead letter.
const MAX_BYTES: usize = 256 << 20;
/// Births of one node. The oldest go first.
const MAX_BIRTHS: usize = 1_000;
/// What a name or an entry takes beside its text, in bytes.
const OVERHEAD: usize = 128;
/// How long "there is no such birth in the topics" is believed.
const COMPLETE_FOR: Duration = Duration::from_secs(10);

/// What one birth announces.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Birth {
    /// Names by alias.
    aliases: HashMap<u64, String>,
    /// Data types by name.
    types: HashMap<String, u32>,
}

impl Birth {
    fn of(payload: &Payload) -> Self {
        let mut birth = Self::default();
        for metric in &payload.metrics {
            let Some(name) = &metric.name else { continue };
            if let Some(alias) = metric.alias {
                birth.aliases.insert(alias, name.clone());
            }
            birth.types.insert(name.clone(), metric.datatype.unwrap_or(0));
        }
        birth
    }

    pub(super) fn name(&self, alias: u64) -> Option<&str> {
        self.aliases.get(&alias).map(String::as_str)
    }

    /// Of a metric by its name.
    pub(super) fn datatype(&self, name: &str) -> Option<u32> {
        self.types.get(name).copied()
    }

    fn bytes(&self) -> usize {
        let names = self.aliases.values().chain(self.types.keys());
        names.map(|name| name.len() + OVERHEAD).sum()
    }
}

/// A birth that has to be known before a message can be read: of this node, and not younger than the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededBirth {
    /// `group/edge_node` or `group/edge_node/device`.
    pub node: String,
    /// Milliseconds since the epoch.
    pub at: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By node, then by the birth's time in milliseconds.
    nodes: HashMap<String, BTreeMap<u64, Arc<Birth>>>,
    bytes: usize,
    /// Since when all births of the topics are known.
    complete: Option<Instant>,
    /// How often they were forgotten.
    generation: u64,
    has_warned: bool,
}

/// The births that were read.
#[derive(Debug, Default)]
pub struct Births(RwLock<State>);

impl Births {
    /// Takes note of a birth that was found in a topic; anything else is left alone. `generation` is of when the search
    /// began: what it finds after [`Births::forget`] is not taken.
    pub fn learn(&self, record: &Record<'_>, generation: u64) {
        if self.generation() == generation {
            super::learn(record, self);
        }
    }

    /// Changes with [`Births::forget`].
    pub fn generation(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// All births of the topics are known, as of now.
    pub fn set_complete(&self, generation: u64) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.generation == generation {
            state.complete = Some(Instant::now());
        }
    }

    /// Others have read a part of the topics meanwhile: births that are known may have been superseded.
    pub fn forget(&self) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { generation: state.generation + 1, ..State::default() };
    }

    /// Whether a message can be read, or refused.
    pub fn has(&self, needed: &NeededBirth) -> bool {
        let is_complete = {
            let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
            state.complete.is_some_and(|since| since.elapsed() < COMPLETE_FOR)
        };
        is_complete || self.at(&needed.node, needed.at).is_some()
    }

    pub(super) fn keep(&self, node: &str, at: u64, payload: &Payload) {
        let birth = Birth::of(payload);
        let mut guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let bytes = birth.bytes();
        if state.bytes + bytes + node.len() + OVERHEAD > MAX_BYTES {
            if !state.has_warned {
                tracing::warn!(node, "births take too much memory: this one and later ones are not kept");
                state.has_warned = true;
            }
            return;
        }
        let births = state.nodes.entry(node.to_owned()).or_default();
        // Nodes are born again and again, mostly as they were.
        let before = births.range(..=at).next_back().or_else(|| births.iter().next()).map(|(_, birth)| birth);
        let shared = before.filter(|before| ***before == birth).cloned();
        state.bytes += OVERHEAD + if shared.is_some() { 0 } else { bytes };
        let mut gone = births.insert(at, shared.unwrap_or_else(|| Arc::new(birth)));
        if births.len() > MAX_BIRTHS {
            gone = births.pop_first().map(|(_, birth)| birth);
        }
        if let Some(gone) = gone {
            let is_last = Arc::strong_count(&gone) == 1;
            state.bytes = state.bytes.saturating_sub(OVERHEAD + if is_last { gone.bytes() } else { 0 });
        }
    }

    /// The birth that data of this time are read by.
    pub(super) fn at(&self, node: &str, at: u64) -> Option<Arc<Birth>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.nodes.get(node)?.range(..=at).next_back().map(|(_, birth)| birth.clone())
    }

    /// The first birth of all: for data that are older than it.
    pub(super) fn first(&self, node: &str) -> Option<Arc<Birth>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.nodes.get(node)?.first_key_value().map(|(_, birth)| birth.clone())
    }
}
