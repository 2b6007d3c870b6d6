//! Ids abbreviated for narrow terminals: to as few characters as distinguish the ids of one table.

use std::collections::BTreeSet;

/// An abbreviation has at least this many characters of the id.
const LEAST: usize = 8;

/// Which characters of an id are kept, and how many. Random ids differ at their start, numbered ones at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abbreviation {
    Start(usize),
    End(usize),
}

impl Abbreviation {
    /// The shortest one that keeps `ids` distinct; the start if both ends need the same length.
    pub(super) fn of(ids: &BTreeSet<&str>) -> Self {
        let (start, end) = (start_needed(ids), end_needed(ids));
        if start <= end { Self::Start(start) } else { Self::End(end) }
    }

    /// The same end of the id, and longer if further `ids` need it.
    pub(super) fn extended(self, ids: &BTreeSet<&str>) -> Self {
        match self {
            Self::Start(length) => Self::Start(length.max(start_needed(ids))),
            Self::End(length) => Self::End(length.max(end_needed(ids))),
        }
    }

    /// `5f0c1c9e…` or `…00000001`; an id that would not become shorter stays whole.
    pub(super) fn apply(self, id: &str) -> String {
        let (Self::Start(length) | Self::End(length)) = self;
        if length + 1 >= id.len() {
            return id.to_owned();
        }
        match self {
            Self::Start(length) => id.get(..length).map(|start| format!("{start}…")),
            Self::End(length) => id.get(id.len() - length..).map(|end| format!("…{end}")),
        }
        .unwrap_or_else(|| id.to_owned())
    }
}

fn start_needed(ids: &BTreeSet<&str>) -> usize {
    distinct_length(ids.iter().copied())
}

fn end_needed(ids: &BTreeSet<&str>) -> usize {
    let reversed: BTreeSet<String> = ids.iter().map(|id| id.chars().rev().collect()).collect();
    distinct_length(reversed.iter().map(String::as_str))
}

/// How many first characters distinguish `sorted` texts: one more than the longest start that two neighbours share.
fn distinct_length<'a>(sorted: impl Iterator<Item = &'a str> + Clone) -> usize {
    let neighbours = sorted.clone().zip(sorted.skip(1));
    let shared = neighbours.map(|(left, right)| {
        left.bytes().zip(right.bytes()).take_while(|(left, right)| left == right).count()
    });
    shared.max().map_or(LEAST, |shared| LEAST.max(shared + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn ids(numbers: &[u128]) -> Vec<String> {
        numbers.iter().map(|number| Uuid::from_u128(*number).to_string()).collect()
    }

    fn set(ids: &[String]) -> BTreeSet<&str> {
        ids.iter().map(String::as_str).collect()
    }

    #[test]
    fn random_ids_keep_their_start_and_numbered_ids_their_end() {
        let random = ids(&[0x5f0c_1c9e_8b7b_5d3c_9d55_0b8b_2f7e_6a11, 0xa1 << 120]);
        assert_eq!(Abbreviation::of(&set(&random)).apply(&random[0]), "5f0c1c9e…");
        let numbered = ids(&[1, 2, 300]);
        let abbreviation = Abbreviation::of(&set(&numbered));
        assert_eq!(abbreviation.apply(&numbered[2]), "…0000012c");
        assert_eq!(abbreviation.extended(&set(&ids(&[1, 1 + (1 << 40)]))), Abbreviation::End(11));
    }

    proptest! {
        #[test]
        fn different_ids_stay_different(numbers in prop::collection::btree_set(any::<u128>(), 1..50)) {
            let ids = ids(&numbers.iter().copied().collect::<Vec<_>>());
            let abbreviation = Abbreviation::of(&set(&ids));
            let short: BTreeSet<String> = ids.iter().map(|id| abbreviation.apply(id)).collect();
            prop_assert_eq!(short.len(), ids.len());
        }
    }
}
