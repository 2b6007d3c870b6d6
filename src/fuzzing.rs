//! One function for each reader of what others wrote, for the fuzz targets (`fuzz/`) and `tests/hostile.rs`. Whatever
//! the bytes are, each returns: no panic, no hang, no memory beyond a few times their own. Each says whether they made
//! sense, and holds what must be true where they did.

use std::io::Cursor;
use std::path::PathBuf;
use std::time::Duration;

use crate::analytics::Filter;
use crate::audit::ledger::{LedgerReader, Line};
use crate::cassandra;
use crate::reading::decode::{self, DecodeLimits, EARLIEST};
use crate::reading::encode::Encoder;
use crate::simulation::columns::Mapping;
use crate::simulation::recording::{Recording, RecordingPlan, TimeShift};
use crate::time::TimeRange;
use crate::time::{self, Zone};

/// 2025-06-15T15:06:40Z.
const NOW: i64 = 1_750_000_000_000;
const LIMITS: DecodeLimits =
    DecodeLimits { max_message_bytes: 100 << 20, max_future_skew: Duration::from_secs(3600) };

/// A message of the topic. A reading that was decoded is encoded and decoded again to the same.
pub fn decode(bytes: &[u8]) -> bool {
    let reading = match decode::decode(bytes, &LIMITS, NOW) {
        Ok(decoded) => decoded.reading,
        Err(rejection) => {
            let text = rejection.to_string();
            assert!(text.len() < 1_000, "a refusal of {} bytes", text.len());
            return false;
        }
    };
    assert!(reading.recorded_at >= EARLIEST, "{}", reading.recorded_at);
    let mut again = Vec::new();
    Encoder::new().encode(&reading, &mut again);
    let decoded = decode::decode(&again, &LIMITS, NOW).map(|decoded| decoded.reading);
    assert_eq!(decoded.as_ref(), Ok(&reading), "{}", String::from_utf8_lossy(&again));
    true
}

/// `--where`.
pub fn filter(text: &str) -> bool {
    match Filter::parse(text, Zone::Utc, NOW) {
        Ok(filter) => !filter.columns().is_empty(),
        Err(error) => {
            let _ = error.to_string();
            false
        }
    }
}

/// `--from`, `--to` and `--last`, and the time of a CSV line.
pub fn time_range(text: &str) -> bool {
    let _ = text.parse::<TimeShift>();
    let _ = time::recorded(text);
    let mut understood = false;
    let zones = ["UTC", "Europe/Berlin", "America/St_Johns", text];
    for zone in zones.into_iter().filter_map(|name| Zone::named(name).ok()) {
        for range in [
            TimeRange::parse(Some(text), None, None, zone, NOW),
            TimeRange::parse(None, Some(text), None, zone, NOW),
            TimeRange::parse(None, None, Some(text), zone, NOW),
        ] {
            match range {
                Ok(range) => {
                    assert!(range.from < range.to);
                    let _ = (time::display(range.from), time::display(range.to));
                    understood = true;
                }
                Err(error) => drop(error.to_string()),
            }
        }
    }
    understood
}

/// A config file, and after a NUL a flag as `key=value`.
pub fn config(text: &str) -> bool {
    let (file, flag) = match text.split_once('\0') {
        Some((file, flag)) => (file, flag.split_once('=')),
        None => (text, None),
    };
    match crate::config::from_text(file, flag) {
        Ok(_) => true,
        Err(error) => {
            let _ = error.to_string();
            false
        }
    }
}

/// CQL in the manner of schema.cql.
pub fn schema(text: &str) -> bool {
    crate::store::schema::count_definitions(text).is_ok_and(|definitions| definitions > 0)
}

/// A recording, CSV or NDJSON, with lines that are no readings skipped.
pub fn recording(bytes: &[u8]) -> bool {
    let named = |pairs: &[&str]| pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>();
    // NDJSON has no columns, so that it refuses a mapping.
    let set = match bytes.trim_ascii_start().first() {
        Some(b'{') => named(&[]),
        _ => named(&["location=l", "device_type=d"]),
    };
    let Ok(mapping) = Mapping::parse(&[], &set, &named(&["pressure=kpa", "temperature=kelvin"])) else {
        return false;
    };
    let plan = RecordingPlan {
        path: PathBuf::from("-"),
        mapping,
        shift: TimeShift::None,
        skip_bad: true,
        limits: DecodeLimits { max_message_bytes: 1_000, ..LIMITS },
    };
    let Ok(mut recording) = Recording::read("fuzz".to_owned(), Box::new(Cursor::new(bytes.to_vec())), &plan)
    else {
        return false;
    };
    let (mut readings, mut line) = (0_usize, Vec::new());
    while let Ok(Some(reading)) = recording.next_reading() {
        line.clear();
        Encoder::new().encode(&reading, &mut line);
        readings += 1;
        assert!(readings <= bytes.len(), "more readings than bytes");
    }
    readings > 0
}

/// The ledger of a run.
pub fn ledger(bytes: &[u8]) -> bool {
    let mut reader = LedgerReader::new(bytes);
    let (mut entries, mut length) = (0, 0);
    while let Ok(Some((line, bytes))) = reader.next_line() {
        length += bytes;
        entries += u64::from(matches!(line, Line::Entry(_)));
    }
    assert_eq!(length, bytes.len() as u64, "not all of it was read");
    entries > 0
}

/// What arrives on a connection to Cassandra.
pub fn frames(bytes: &[u8]) -> bool {
    cassandra::read_answers(bytes) > 0
}

/// The body of a result.
pub fn rows(bytes: &[u8]) -> bool {
    cassandra::read_result(bytes) > 0
}
