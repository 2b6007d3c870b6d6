//! Notes about messages that Kafka deleted before the consumer group had read them. A note is kept as the metadata of the
//! partition's committed offset: it becomes durable together with the offset that passes the deleted messages, needs no
//! table and no further permission, and lasts as long as the consumer group's offsets do.

use serde::{Deserialize, Serialize};

use crate::output::text::plural;

/// Ranges kept in a note, the newest; a broker's limit for metadata is 4 KiB.
const MOST_RANGES: usize = 20;

/// Deleted messages of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossNote {
    /// Offsets that were deleted before they were read: an upper bound of the messages, because transaction markers and
    /// compacted messages have offsets too.
    pub messages: u64,
    /// The newest ranges, oldest first.
    pub ranges: Vec<LostRange>,
}

/// Offsets `[from, to)` that were deleted before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    pub from: i64,
    pub to: i64,
    /// When it was noticed, in milliseconds since the epoch.
    pub found_at: i64,
}

impl LostRange {
    /// Number of offsets.
    pub fn len(&self) -> u64 {
        u64::try_from(self.to.saturating_sub(self.from)).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }
}

/// A partition's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostMessages {
    pub topic: String,
    pub partition: i32,
    #[serde(flatten)]
    pub note: LossNote,
}

/// "15000 messages, the last of them in partition 2 of readings, offsets 0 to 14999, found 2026-11-25T10:00:00Z".
pub fn describe(lost: &[LostMessages]) -> Option<String> {
    let messages: u64 = lost.iter().map(|lost| lost.note.messages).sum();
    let ranges = lost.iter().flat_map(|lost| lost.note.ranges.iter().map(move |range| (lost, range)));
    let (LostMessages { topic, partition, .. }, last) = ranges.max_by_key(|(_, range)| range.found_at)?;
    let found_at = chrono::DateTime::from_timestamp_millis(last.found_at)
        .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        .unwrap_or_default();
    Some(format!(
        "{}, the last of them in partition {partition} of {topic}, offsets {} to {}, found {found_at}",
        plural(messages, "message"),
        last.from,
        last.to - 1
    ))
}

/// What the metadata holds.
#[derive(Serialize, Deserialize)]
struct Metadata<N> {
    lost: N,
}

impl LossNote {
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    pub fn add(&mut self, range: LostRange) {
        self.messages += range.len();
        self.ranges.push(range);
        let surplus = self.ranges.len().saturating_sub(MOST_RANGES);
        self.ranges.drain(..surplus);
    }

    /// As metadata of a committed offset; empty without losses.
    pub fn to_metadata(&self) -> String {
        match self.is_empty() {
            true => String::new(),
            // Numbers always have a JSON form.
            false => serde_json::to_string(&Metadata { lost: self }).unwrap_or_default(),
        }
    }

    /// From the metadata of a committed offset; empty if there is none, or another program's.
    pub fn from_metadata(metadata: &str) -> Self {
        serde_json::from_str::<Metadata<Self>>(metadata).map(|metadata| metadata.lost).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_as_metadata_and_keeps_its_newest_ranges() {
        let mut note = LossNote::default();
        assert_eq!(note.to_metadata(), "");
        for number in 0..100 {
            note.add(LostRange {
                from: number * 1_000_000_000,
                to: number * 1_000_000_000 + 10,
                found_at: number,
            });
        }
        let metadata = note.to_metadata();
        assert!(metadata.len() < 4096, "{}", metadata.len());
        assert_eq!(LossNote::from_metadata(&metadata), note);
        assert_eq!((note.messages, note.ranges.len(), note.ranges[0].found_at), (1_000, 20, 80));
    }

    #[test]
    fn metadata_of_other_programs_is_no_note() {
        for metadata in ["", "host-1", "{}", r#"{"lost":3}"#] {
            assert!(LossNote::from_metadata(metadata).is_empty(), "{metadata}");
        }
    }

    #[test]
    fn losses_are_described_by_their_number_and_the_last_range() {
        assert_eq!(describe(&[]), None);
        let range = |from, to, found_at| LostRange { from, to, found_at };
        let lost = |partition, ranges: Vec<LostRange>| LostMessages {
            topic: "readings".into(),
            partition,
            note: LossNote { messages: ranges.iter().map(LostRange::len).sum(), ranges },
        };
        let lost = [lost(0, vec![range(0, 5, 2_000)]), lost(1, vec![range(3, 4, 1_000)])];
        assert_eq!(
            describe(&lost).unwrap(),
            "6 messages, the last of them in partition 0 of readings, offsets 0 to 4, found 1970-01-01T00:00:02Z"
        );
    }
}
