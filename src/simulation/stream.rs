//! Readings become messages: from the fleet or a recording, with disorder, encoded, in sending order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use uuid::Uuid;

use super::disorder::{Disorder, Lost, Malformation, lateness, lose_value};
use super::fleet::{Extreme, Fleet, blank};
use super::recording::Recording;
use crate::audit::ledger::Acknowledged;
use crate::reading::Reading;
use crate::reading::encode::{self, Encoder};

/// Where readings come from.
#[derive(Debug)]
pub enum Source<'n> {
    Fleet(Box<Fleet<'n>>),
    Recording(Box<Recording>),
}

/// What is known about a message in addition to its bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Note {
    pub sensor: Uuid,
    /// What a recording calls it.
    pub sensor_name: Option<Arc<str>>,
    /// Milliseconds since the epoch.
    pub recorded_at: i64,
    pub extreme: Option<Extreme>,
    pub malformed: Option<Malformation>,
    pub late: bool,
    pub out_of_order: bool,
    pub missing: bool,
    /// No value is left in it.
    pub empty: bool,
    pub duplicate: bool,
}

impl Note {
    /// The part that the ledger keeps.
    pub fn acknowledged(&self) -> Acknowledged<'_> {
        Acknowledged {
            sensor: self.sensor,
            sensor_name: self.sensor_name.as_deref(),
            recorded_at: self.recorded_at,
            extreme: self.extreme.map(|extreme| (extreme.metric, extreme.value)),
            duplicate: self.duplicate,
            empty: self.empty,
            malformed: self.malformed.map(Malformation::name),
        }
    }
}

/// A message ready to be sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// The sensor id as text.
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub note: Note,
}

/// How many messages of each kind were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub sent: u64,
    /// Readings that can be stored: all but the duplicates and the malformed. From a simulated fleet each is a row of
    /// its own; a recording may have several with one sensor and timestamp.
    pub readings: u64,
    pub extremes: u64,
    pub late: u64,
    pub out_of_order: u64,
    pub missing: u64,
    pub duplicates: u64,
    pub malformed: u64,
}

impl Counts {
    pub fn add(&mut self, note: &Note) {
        self.sent += 1;
        self.duplicates += u64::from(note.duplicate);
        self.malformed += u64::from(note.malformed.is_some());
        self.readings += u64::from(!note.duplicate && note.malformed.is_none());
        self.extremes += u64::from(note.extreme.is_some() && !note.duplicate);
        self.late += u64::from(note.late && !note.duplicate);
        self.out_of_order += u64::from(note.out_of_order && !note.duplicate);
        self.missing += u64::from(note.missing && !note.duplicate);
    }
}

/// A message delayed until `due` others have been sent; ordered so that a heap returns the earliest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: u64,
    /// Its place in `Stream::slots`, which also breaks ties.
    slot: usize,
}

/// Maximum number of messages sent before a delayed one.
const MAX_WINDOW: u64 = 4096;

/// An endless (fleet) or finite (recording) sequence of messages.
#[derive(Debug)]
pub struct Stream<'n> {
    source: Source<'n>,
    disorder: Disorder,
    rng: ChaCha8Rng,
    encoder: Encoder,
    reading: Reading<'n>,
    message: Message,
    held: BinaryHeap<Reverse<Held>>,
    slots: Vec<Message>,
    free: Vec<usize>,
    window: u64,
    given: u64,
}

impl<'n> Stream<'n> {
    pub fn new(source: Source<'n>, disorder: Disorder, seed: u64) -> Self {
        // A random stream of its own, so that the fleet measures the same with and without disorder.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        // Two rounds of a fleet: enough for a sensor's next reading to be sent before this one.
        let window = match &source {
            Source::Fleet(fleet) => (2 * fleet.len() as u64).clamp(2, MAX_WINDOW),
            Source::Recording(_) => 64,
        };
        Self {
            source,
            disorder,
            rng,
            encoder: Encoder::new(),
            reading: blank(),
            message: Message::default(),
            held: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            window,
            given: 0,
        }
    }

    /// The source, for what it knows in addition to its readings.
    pub fn source(&self) -> &Source<'n> {
        &self.source
    }

    /// The next message, or `None` after the last.
    pub fn next_message(&mut self) -> anyhow::Result<Option<&Message>> {
        loop {
            if self.held.peek().is_some_and(|Reverse(held)| held.due <= self.given) {
                return Ok(self.release());
            }
            let Some(extreme) = self.take()? else { return Ok(self.release()) };
            self.compose(extreme);
            if self.happens(self.disorder.duplicate) {
                self.hold(true);
            }
            if self.happens(self.disorder.out_of_order) {
                self.message.note.out_of_order = true;
                self.hold(false);
                continue;
            }
            self.given += 1;
            return Ok(Some(&self.message));
        }
    }

    /// The next reading of the source into `self.reading`; the inner option is its injected extreme.
    fn take(&mut self) -> anyhow::Result<Option<Option<Extreme>>> {
        match &mut self.source {
            Source::Fleet(fleet) => Ok(Some(fleet.read_into(&mut self.reading))),
            Source::Recording(recording) => match recording.next_reading()? {
                None => Ok(None),
                Some(reading) => {
                    self.reading = reading;
                    Ok(Some(None))
                }
            },
        }
    }

    /// Makes `self.message` from `self.reading`, with the faults inside a message.
    fn compose(&mut self, extreme: Option<Extreme>) {
        let mut note = Note { extreme, ..Note::default() };
        note.late = self.happens(self.disorder.late);
        if note.late {
            let late = i64::try_from(lateness(self.reading.sensor).as_millis()).unwrap_or(0);
            self.reading.recorded_at = self.reading.recorded_at.saturating_sub(late);
        }
        let mut lost = Lost::Nothing;
        if extreme.is_none() && self.happens(self.disorder.missing) {
            lost = lose_value(&mut self.reading, &mut self.rng);
            note.missing = lost != Lost::Nothing;
        }
        note.sensor = self.reading.sensor;
        note.sensor_name = self.reading.sensor_name.as_deref().map(Arc::from);
        note.recorded_at = self.reading.recorded_at;
        let Message { key, payload, .. } = &mut self.message;
        key.clear();
        encode::sensor_id(self.reading.sensor, key);
        payload.clear();
        self.encoder.encode(&self.reading, payload);
        match lost {
            Lost::Nothing | Lost::Absent => {}
            Lost::Null(name) => encode::append(name, b"null", payload),
            Lost::Sentinel(name) => encode::append(name, b"-999.0", payload),
        }
        note.empty = self.reading.is_empty();
        if extreme.is_none() && self.happens(self.disorder.malformed) {
            let kind = Malformation::ALL[self.rng.random_range(0..Malformation::ALL.len())];
            kind.apply(&mut self.message.payload);
            note.malformed = Some(kind);
            (note.late, note.missing, note.empty) = (false, false, false);
        }
        self.message.note = note;
    }

    fn happens(&mut self, probability: f64) -> bool {
        // No number is drawn for a probability of 0, so that one flag does not change the effect of another.
        probability > 0.0 && self.rng.random::<f64>() < probability
    }

    /// Keeps `self.message` for later.
    fn hold(&mut self, duplicate: bool) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Message::default());
            self.slots.len() - 1
        });
        let kept = &mut self.slots[slot];
        kept.key.clone_from(&self.message.key);
        kept.payload.clone_from(&self.message.payload);
        kept.note = Note { duplicate, ..self.message.note.clone() };
        let due = self.given + self.rng.random_range(1..=self.window);
        self.held.push(Reverse(Held { due, slot }));
    }

    /// Returns the delayed message that is due first, if any.
    fn release(&mut self) -> Option<&Message> {
        let Reverse(Held { slot, .. }) = self.held.pop()?;
        std::mem::swap(&mut self.message, &mut self.slots[slot]);
        self.free.push(slot);
        self.given += 1;
        Some(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::simulation::clock::Clock;
    use crate::simulation::fleet::FleetPlan;

    fn plan() -> FleetPlan {
        let clock = Clock::Stepped { start: 1_767_225_600_000, step: Duration::from_secs(60) };
        FleetPlan { sensors: 100, clock, ..Default::default() }
    }

    fn messages(disorder: Disorder, count: usize) -> (Vec<Message>, Counts) {
        let plan = plan();
        let names = plan.location_names();
        let fleet = Fleet::new(&plan, &names);
        let mut stream = Stream::new(Source::Fleet(Box::new(fleet)), disorder, plan.seed);
        let mut counts = Counts::default();
        let messages = (0..count)
            .map(|_| {
                let message = stream.next_message().unwrap().unwrap().clone();
                counts.add(&message.note);
                message
            })
            .collect();
        (messages, counts)
    }

    const ALL: Disorder =
        Disorder { late: 0.05, out_of_order: 0.05, missing: 0.05, duplicate: 0.05, malformed: 0.05 };

    #[test]
    fn the_same_seed_gives_the_same_messages_disorder_included() {
        assert_eq!(messages(ALL, 5000), messages(ALL, 5000));
    }

    #[test]
    fn messages_are_keyed_by_their_sensor() {
        for message in messages(Disorder::default(), 200).0 {
            let value: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(value["iot_sensor_id"].as_str().unwrap().as_bytes(), message.key);
            assert_eq!(message.note.sensor.to_string().as_bytes(), message.key);
        }
    }

    #[test]
    fn a_message_that_is_not_malformed_is_decoded_as_noted() {
        use crate::reading::decode::{DecodeLimits, decode};
        let limits = DecodeLimits {
            max_message_bytes: 1 << 20,
            max_future_skew: Duration::from_secs(3600),
            is_any_time: false,
        };
        let now = 1_767_225_600_000 + 86_400_000;
        for message in messages(ALL, 5000).0 {
            let decoded = decode(&message.payload, &limits, now);
            assert_eq!(decoded.is_err(), message.note.malformed.is_some());
            if let Ok(decoded) = decoded {
                assert_eq!(decoded.reading.sensor, message.note.sensor);
                assert_eq!(decoded.reading.recorded_at, message.note.recorded_at);
            }
        }
    }

    #[test]
    fn each_disorder_occurs_as_often_as_requested() {
        let (_, counts) = messages(ALL, 40_000);
        for (name, count) in [
            ("late", counts.late),
            ("out of order", counts.out_of_order),
            ("missing", counts.missing),
            ("duplicates", counts.duplicates),
            ("malformed", counts.malformed),
        ] {
            // 5% of 40,000 less what overlaps; four standard deviations are 175.
            assert!((1650..2250).contains(&count), "{name}: {count}");
        }
        assert_eq!(
            messages(Disorder::default(), 1000).1,
            Counts { sent: 1000, readings: 1000, ..counts_of(1000) }
        );
    }

    /// The injected extremes, which are there without disorder too.
    fn counts_of(count: usize) -> Counts {
        let extremes =
            messages(Disorder::default(), count).0.iter().filter(|m| m.note.extreme.is_some()).count();
        Counts { extremes: extremes as u64, ..Default::default() }
    }

    #[test]
    fn a_duplicate_is_the_same_message_again() {
        let disorder = Disorder { duplicate: 0.1, ..Default::default() };
        let (all, counts) = messages(disorder, 5000);
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        for message in &all {
            let before = seen.entry(&message.payload).or_default();
            assert_eq!(*before, usize::from(message.note.duplicate));
            *before += 1;
        }
        assert_eq!(seen.len() as u64, counts.readings);
    }

    #[test]
    fn late_and_swapped_readings_stay_rows_of_their_own() {
        let disorder = Disorder { late: 0.3, out_of_order: 0.3, ..Default::default() };
        let (all, counts) = messages(disorder, 20_000);
        let mut last: HashMap<Uuid, i64> = HashMap::new();
        let mut rows = std::collections::HashSet::new();
        let mut backwards = 0;
        for message in &all {
            let Note { sensor, recorded_at, late, .. } = message.note;
            assert!(rows.insert((sensor, recorded_at)), "two messages make one row");
            if !late {
                let before = last.insert(sensor, recorded_at).unwrap_or(i64::MIN);
                backwards += usize::from(before > recorded_at);
            }
        }
        assert_eq!(counts.readings, 20_000);
        assert!(backwards > 1000, "{backwards}");
    }

    #[test]
    fn disorder_never_touches_an_injected_extreme() {
        let plan = FleetPlan { extreme: 0.05, ..plan() };
        let names = plan.location_names();
        let fleet = Fleet::new(&plan, &names);
        let disorder = Disorder { missing: 1.0, malformed: 1.0, ..Default::default() };
        let mut stream = Stream::new(Source::Fleet(Box::new(fleet)), disorder, 1);
        let mut found = 0;
        for _ in 0..2000 {
            let message = stream.next_message().unwrap().unwrap();
            if let Some(extreme) = message.note.extreme {
                found += 1;
                let value: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                let column = value.get(extreme.metric);
                let stored = column.or_else(|| value["other_metrics"].get(extreme.metric)).unwrap();
                assert_eq!(stored.as_f64().unwrap() as f32, extreme.value);
            }
        }
        assert!(found > 50);
    }
}
