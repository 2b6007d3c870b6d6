//! A map with a bounded size that keeps the recently used entries, at the cost of one look-up.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations. Used entries are in the young one. When it is full, it becomes the old one, and entries that were not
/// used since the previous change are dropped.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Maximum number of entries per generation.
    room: usize,
    forgotten: u64,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    /// Holds at most `room` entries, and never drops the `room / 2` most recently used.
    pub(super) fn new(room: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), room: (room / 2).max(1), forgotten: 0 }
    }

    pub(super) fn get_or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.young.len() >= self.room && !self.young.contains_key(&key) {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        let Self { young, old, .. } = self;
        young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_else(new))
    }

    /// Does not count as a use.
    pub(super) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.young.get_mut(key) {
            Some(value) => Some(value),
            None => self.old.get_mut(key),
        }
    }

    /// Takes another maximum number of entries.
    pub(super) fn resize(&mut self, room: usize) {
        self.room = (room / 2).max(1);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.young.iter_mut().chain(&mut self.old)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| keep(key));
        self.old.retain(|key, _| keep(key));
    }

    /// Number of entries dropped since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let mut recent = Recent::new(8);
        for key in 0..100 {
            *recent.get_or_insert_with(-1, || 0) += 1;
            recent.get_or_insert_with(key, || 0);
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(*recent.get_or_insert_with(-1, || 0), 100);
        assert!(recent.take_forgotten() >= 90);
        recent.retain(|key| *key != -1);
        assert_eq!(*recent.get_or_insert_with(-1, || 0), 0);
    }
}
