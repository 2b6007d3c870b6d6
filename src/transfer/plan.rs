//! Which file of an export holds which group and which time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FileFormat, FolderKey};
use crate::analytics::slice::TimeSlice;
use crate::reading::Bucket;
use crate::reading::{Group, Partition};
use crate::time::{TimeRange, Zone};

/// Target number of files: enough to read in parallel, and to lose little when the export is stopped.
const FILES: usize = 32;
/// Minimum and maximum number of buckets per file: no tiny files, and none that takes an hour.
const BUCKETS: (usize, usize) = (24, 480);

/// A group's readings in `[from, to)`, and the buckets that may hold some. Pieces of a plan do not overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    pub location: String,
    pub device_type: String,
    pub from: i64,
    pub to: i64,
    /// Start in milliseconds and width in seconds. More than one if the width was changed: then a reading may
    /// have a copy.
    pub buckets: Vec<(i64, i32)>,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Relative to the output folder.
    pub path: String,
    pub pieces: Vec<Piece>,
}

impl Piece {
    pub fn partitions(&self) -> Vec<Partition> {
        let group =
            Arc::new(Group { location: self.location.clone(), device_type: self.device_type.clone() });
        let partition =
            |&(start, seconds)| Partition { group: group.clone(), bucket: Bucket { start, seconds } };
        self.buckets.iter().map(partition).collect()
    }

    pub fn range(&self) -> TimeRange {
        TimeRange { from: self.from, to: self.to }
    }
}

impl PlannedFile {
    pub fn buckets(&self) -> usize {
        self.pieces.iter().map(|piece| piece.buckets.len()).sum()
    }
}

/// A group's slice as pieces, split at the midnights of `days` if folders are named after days.
pub fn pieces(group: &Group, slice: &TimeSlice, days: Option<Zone>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut from = slice.from;
    while from < slice.to {
        let to = days.map_or(slice.to, |zone| slice.to.min(zone.day(from).to));
        let reaches = |bucket: &Bucket| bucket.start < to && from < bucket.end();
        let buckets = slice.partitions.iter().map(|partition| partition.bucket).filter(reaches);
        pieces.push(Piece {
            location: group.location.clone(),
            device_type: group.device_type.clone(),
            from,
            to,
            buckets: buckets.map(|bucket| (bucket.start, bucket.seconds)).collect(),
        });
        from = to;
    }
    pieces
}

/// Pieces as files in folders named after `keys`; days are those of `zone`.
pub fn files(pieces: Vec<Piece>, keys: &[FolderKey], zone: Zone, format: FileFormat) -> Vec<PlannedFile> {
    let total: usize = pieces.iter().map(|piece| piece.buckets.len()).sum();
    let most = (total / FILES).clamp(BUCKETS.0, BUCKETS.1);
    let mut folders: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        folders.entry(folder(&piece, keys, zone)).or_default().push(piece);
    }
    let mut files = Vec::new();
    for (folder, mut pieces) in folders {
        pieces.sort_by(|left, right| {
            let key = |piece: &Piece| (piece.location.clone(), piece.device_type.clone(), piece.from);
            key(left).cmp(&key(right))
        });
        let mut number = 0;
        let mut next: Vec<Piece> = Vec::new();
        let mut buckets = 0;
        let mut end = |pieces: &mut Vec<Piece>| {
            let path = format!("{folder}part-{number:05}.{}", format.extension());
            number += 1;
            files.push(PlannedFile { path, pieces: std::mem::take(pieces) });
        };
        for piece in pieces {
            if buckets > 0 && buckets + piece.buckets.len() > most {
                end(&mut next);
                buckets = 0;
            }
            buckets += piece.buckets.len();
            next.push(piece);
        }
        if !next.is_empty() {
            end(&mut next);
        }
    }
    files
}

fn folder(piece: &Piece, keys: &[FolderKey], zone: Zone) -> String {
    let mut folder = String::new();
    for key in keys {
        // Writing to a string cannot fail.
        let _ = match key {
            FolderKey::Location => write!(folder, "location={}/", escape(&piece.location)),
            FolderKey::DeviceType => write!(folder, "device_type={}/", escape(&piece.device_type)),
            FolderKey::Day => write!(folder, "day={}/", zone.format(zone.day(piece.from).from, "%Y-%m-%d")),
        };
    }
    folder
}

/// Percent-encodes all but letters, digits, `-`, `_` and `.` (RFC 3986's unreserved without `~`): no name can leave its
/// folder, and every reader of such folders decodes it. A name of only dots is escaped too: `%2E%2E`.
pub fn escape(name: &str) -> String {
    let dots = name.bytes().all(|byte| byte == b'.');
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if (byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) && !dots {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Reverses [`escape`]; `None` if the text is not an escaped name.
pub fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analytics::slice::slices;

    const HOUR: i64 = 3_600_000;

    fn group(location: &str) -> Arc<Group> {
        Arc::new(Group { location: location.into(), device_type: "b".into() })
    }

    fn planned(buckets: &[(i64, i32)], days: Option<Zone>) -> Vec<Piece> {
        let group = group("a");
        let partition = |&(start, seconds): &(i64, i32)| Partition {
            group: group.clone(),
            bucket: Bucket { start, seconds },
        };
        slices(buckets.iter().map(partition).collect(), TimeRange::ALL)
            .iter()
            .flat_map(|slice| pieces(&group, slice, days))
            .collect()
    }

    #[test]
    fn a_bucket_over_midnight_is_two_pieces_of_the_same_bucket() {
        let pieces = planned(&[(22 * HOUR, 4 * 3600), (26 * HOUR, 3600)], Some(Zone::Utc));
        let spans: Vec<_> = pieces.iter().map(|piece| (piece.from, piece.to)).collect();
        assert_eq!(spans, [(22 * HOUR, 24 * HOUR), (24 * HOUR, 26 * HOUR), (26 * HOUR, 27 * HOUR)]);
        assert_eq!(pieces[0].buckets, pieces[1].buckets);
        let files = files(pieces, &[FolderKey::Location, FolderKey::Day], Zone::Utc, FileFormat::Parquet);
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["location=a/day=1970-01-01/part-00000.parquet", "location=a/day=1970-01-02/part-00000.parquet"]
        );
    }

    #[test]
    fn folders_are_named_after_the_days_of_the_zone() {
        let kolkata = Zone::named("Asia/Kolkata").unwrap();
        let pieces = planned(&[(18 * HOUR, 3600)], Some(kolkata));
        let spans: Vec<_> = pieces.iter().map(|piece| (piece.from, piece.to)).collect();
        assert_eq!(spans, [(18 * HOUR, 18 * HOUR + HOUR / 2), (18 * HOUR + HOUR / 2, 19 * HOUR)]);
        let files = files(pieces, &[FolderKey::Day], kolkata, FileFormat::Csv);
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["day=1970-01-01/part-00000.csv", "day=1970-01-02/part-00000.csv"]);
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        assert_eq!(escape("../a b/ü="), "..%2Fa%20b%2F%C3%BC%3D");
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(unescape("%zz"), None);
        assert_eq!(unescape("%4"), None);
    }

    proptest! {
        #[test]
        fn an_escaped_name_reads_back(name in ".{1,20}") {
            let escaped = escape(&name);
            prop_assert!(!escaped.contains('/') && !escaped.contains('='));
            prop_assert_eq!(unescape(&escaped), Some(name));
        }

        #[test]
        fn every_moment_of_a_bucket_is_in_one_piece_that_names_the_bucket(
            buckets in prop::collection::vec((0i64..100, prop::sample::select(vec![1i64, 2, 24, 72])), 1..20),
            days in prop::sample::select(vec![None, Some("UTC"), Some("Asia/Kathmandu")]), probe in 0.0f64..1.0, pick in any::<prop::sample::Index>(),
        ) {
            let buckets: Vec<(i64, i32)> = buckets
                .into_iter()
                .map(|(start, hours)| (start / hours * hours * HOUR, (hours * 3600) as i32))
                .collect();
            let (start, seconds) = buckets[pick.index(buckets.len())];
            let at = start + (probe * f64::from(seconds) * 1000.0) as i64;
            let days = days.map(|name| Zone::named(name).unwrap());
            let keys = if days.is_some() { vec![FolderKey::Day] } else { vec![] };
            let planned = planned(&buckets, days);
            let files = files(planned, &keys, days.unwrap_or_default(), FileFormat::Csv);
            let holding: Vec<_> = files
                .iter()
                .flat_map(|file| &file.pieces)
                .filter(|piece| piece.range().contains(at))
                .collect();
            prop_assert_eq!(holding.len(), 1);
            prop_assert!(holding[0].buckets.contains(&(start, seconds)));
        }
    }
}
