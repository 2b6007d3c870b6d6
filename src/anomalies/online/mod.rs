//! A streaming detector for one sensor's values: one pass, bounded memory, and a score for each value from those before it.
//!
//! - [`window`](self): the level and the spread of the last values; [`shape`](self): the course of the last blocks of values;
//!   [`season`](self): what is usual at this time of the day and of the week. Each gives a distance from what came before.
//! - [`tail`](self): how rare a distance is among the earlier ones, as -log10 of a share. So distances of any unit compare.
//!
//! The surprises of all parts are combined by the root of the mean of their squares, and this total is judged once more by
//! its own history: a sensor that surprises often has to surprise more. A part that does not have enough values yet is left
//! out: with a surprise of 0 instead, the total would rise whenever a part begins to judge, and the alarm for that would hide
//! what happens in the first readings. docs/analytics.md has the measurements, and what each part contributes.

use serde::{Deserialize, Serialize};

use super::Sensitivity;

mod season;
mod shape;
mod tail;
mod window;

use season::Season;
use shape::Shape;
use tail::Tail;
use window::Window;

/// Memory of a detector, in bytes, once it has seen enough values.
pub const MEMORY: usize = 24 << 10;

/// Surprise, at the default sensitivity, from which a reading is an alarm: one of 250 readings is as rare.
const ALARM: f64 = 2.4;
/// Readings after an alarm that belong to it.
const REST: u32 = 150;
/// Values per window, for level and spread. The longer one is half a day of readings every 15 minutes.
const WINDOWS: [usize; 2] = [12, 48];
/// Values per block of a shape; 12 blocks are a shape.
const BLOCKS: [usize; 2] = [4, 24];
/// How far a value beyond all earlier ones has to be, in quarters of a doubling, where there are few of them. Parts may err, as they
/// are combined; the total decides.
const LEAST_PART: f64 = 1.0;
const LEAST_TOTAL: f64 = 4.0;
const DAY: i64 = 24 * 60 * 60 * 1000;
/// Period in milliseconds, number of slots, and the least weight of the newest value of a slot.
const SEASONS: [(i64, usize, f32); 2] = [(DAY, 48, 0.2), (7 * DAY, 168, 0.3)];
/// Floats that are added or compared at once, in a form that the compiler turns into vector instructions.
const LANES: usize = 8;
/// Statistics whose surprises are combined.
const PARTS: usize = 2 * WINDOWS.len() + BLOCKS.len() + SEASONS.len();

/// What a score is mostly due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The mean of the last values.
    Level,
    /// How much the last values differ from each other.
    Spread,
    /// The course of the last values.
    Shape,
    /// The time of the day.
    Day,
    /// The time of the week.
    Week,
}

/// What is said about a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// In [0, 1]: 0.5 or more is an alarm. 0 while the value belongs to an earlier alarm.
    pub score: f64,
    pub cause: Cause,
    /// The value comes within the readings that belong to an earlier alarm, and is not the last of them.
    pub is_resting: bool,
}

/// The detector of one sensor and metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Online {
    /// Surprise from which a value is an alarm.
    alarm: f64,
    /// The first value; the parts see differences from it, so that 32-bit floats are enough.
    origin: Option<f64>,
    windows: [Window; WINDOWS.len()],
    shapes: [Shape; BLOCKS.len()],
    seasons: [Season; SEASONS.len()],
    tails: [Tail; PARTS],
    total: Tail,
    /// Readings that still belong to the last alarm.
    resting: u32,
}

impl Online {
    /// A detector that has not seen a value. At twice the sensitivity half the surprise is an alarm.
    #[must_use]
    pub fn new(sensitivity: Sensitivity) -> Self {
        let deviations = sensitivity.deviations() / Sensitivity::DEFAULT.deviations();
        Self {
            alarm: ALARM * deviations,
            origin: None,
            windows: WINDOWS.map(Window::new),
            shapes: BLOCKS.map(Shape::new),
            seasons: SEASONS.map(|(period, slots, weight)| Season::new(period, slots, weight)),
            tails: std::array::from_fn(|_| Tail::default()),
            total: Tail::default(),
            resting: 0,
        }
    }

    /// Judges a finite value by those before it, then learns it. `at` is its time in milliseconds since the epoch.
    pub fn judge(&mut self, at: i64, value: f64) -> Judgement {
        /// Beyond this a value says no more, and sums of values stay finite.
        const MAX: f64 = 1e30;
        let origin = *self.origin.get_or_insert(value);
        let value = (value - origin).clamp(-MAX, MAX) as f32;
        let [short, long] = &mut self.windows;
        let [fast, slow] = &mut self.shapes;
        let [day, week] = &mut self.seasons;
        let ((short_level, short_spread), (long_level, long_spread)) =
            (short.distances(value), long.distances(value));
        let distances: [(Option<f64>, Cause); PARTS] = [
            (short_level, Cause::Level),
            (short_spread, Cause::Spread),
            (long_level, Cause::Level),
            (long_spread, Cause::Spread),
            (fast.distance(value), Cause::Shape),
            (slow.distance(value), Cause::Shape),
            (day.distance(at, value), Cause::Day),
            (week.distance(at, value), Cause::Week),
        ];
        // Before that nobody knows what is usual at this time.
        let (knows_day, knows_week) = (day.is_in_use(at), week.is_in_use(at));
        let (mut sum, mut says, mut highest, mut cause) = (0.0, 0, 0.0, Cause::Level);
        for (tail, (distance, of)) in self.tails.iter_mut().zip(distances) {
            let Some(surprise) = distance.and_then(|distance| tail.surprise(distance, LEAST_PART)) else {
                continue;
            };
            says += 1;
            sum += surprise * surprise;
            let is_known = match of {
                Cause::Day => knows_day,
                Cause::Week => knows_week,
                Cause::Level | Cause::Spread | Cause::Shape => true,
            };
            if is_known && surprise > highest {
                (highest, cause) = (surprise, of);
            }
        }
        let surprise = if says == 0 {
            0.0
        } else {
            // That of all parts, if the others surprised as much as those that judge.
            let total = f64::sqrt(sum * PARTS as f64 / f64::from(says));
            // The tail compares ratios, so that a sum of logarithms has to be their power.
            self.total.surprise((total / 2.0).exp(), LEAST_TOTAL).unwrap_or(0.0)
        };
        if self.resting > 0 {
            self.resting -= 1;
            return Judgement { score: 0.0, cause, is_resting: self.resting > 0 };
        }
        if surprise >= self.alarm {
            self.resting = REST;
        }
        Judgement { score: surprise / (surprise + self.alarm), cause, is_resting: false }
    }
}

impl Judgement {
    /// Score from which a value is an alarm.
    pub const ALARM: f64 = 0.5;

    pub fn is_alarm(&self) -> bool {
        self.score >= Self::ALARM
    }
}

impl Cause {
    /// In words: what is unusual.
    pub fn text(self) -> &'static str {
        match self {
            Self::Level => "level of the last readings",
            Self::Spread => "spread of the last readings",
            Self::Shape => "course of the last readings",
            Self::Day => "value for this time of the day",
            Self::Week => "value for this time of the week",
        }
    }
}

#[cfg(test)]
mod tests;
