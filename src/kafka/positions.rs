//! Sets of messages by partition and offset: a bit for each offset of a span.

use std::collections::HashMap;

use super::producer::Position;
use super::reader::Span;

/// Positions within the spans that it was created for; others are never in it.
#[derive(Debug, Default)]
pub struct Positions {
    partitions: HashMap<i32, Bits>,
}

#[derive(Debug)]
struct Bits {
    from: i64,
    to: i64,
    words: Vec<u64>,
}

impl Positions {
    /// An empty set; a million offsets take 125 kB.
    pub fn within(spans: &[Span]) -> Self {
        let bits = |span: &Span| Bits {
            from: span.from,
            to: span.to,
            words: vec![0; usize::try_from(span.len().div_ceil(64)).unwrap_or(usize::MAX)],
        };
        Self { partitions: spans.iter().map(|span| (span.partition, bits(span))).collect() }
    }

    /// Adds a position; `false` if it was in the set already, or lies outside of the spans.
    pub fn insert(&mut self, position: Position) -> bool {
        let Some(bits) = self.partitions.get_mut(&position.partition) else { return false };
        let Some((word, bit)) = bits.locate(position.offset) else { return false };
        let is_new = bits.words[word] & bit == 0;
        bits.words[word] |= bit;
        is_new
    }

    pub fn contains(&self, position: Position) -> bool {
        self.partitions.get(&position.partition).is_some_and(|bits| {
            bits.locate(position.offset).is_some_and(|(word, bit)| bits.words[word] & bit != 0)
        })
    }
}

impl Bits {
    fn locate(&self, offset: i64) -> Option<(usize, u64)> {
        if offset < self.from || offset >= self.to {
            return None;
        }
        let index = usize::try_from(offset - self.from).ok()?;
        Some((index / 64, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_added_inside_of_the_spans(
            from in 0i64..100,
            length in 0i64..300,
            added in prop::collection::vec((0i32..3, -10i64..500), 0..100),
        ) {
            let spans = [Span { partition: 0, from, to: from + length }, Span { partition: 1, from: 0, to: 10 }];
            let mut positions = Positions::within(&spans);
            let mut expected = HashSet::new();
            for (partition, offset) in added {
                let inside = spans
                    .iter()
                    .any(|span| span.partition == partition && span.from <= offset && offset < span.to);
                let is_new = inside && expected.insert((partition, offset));
                prop_assert_eq!(positions.insert(Position { partition, offset }), is_new);
            }
            for partition in 0..3 {
                for offset in -10..500 {
                    let found = positions.contains(Position { partition, offset });
                    prop_assert_eq!(found, expected.contains(&(partition, offset)));
                }
            }
        }
    }
}
