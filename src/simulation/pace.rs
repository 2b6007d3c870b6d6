//! When each message is due: on an absolute schedule, so that late wake-ups are made up for and do not accumulate.

use std::time::{Duration, Instant};

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the broker accepts them.
    Unbounded,
    /// Messages per second.
    Rate(f64),
    /// As recorded, this many times faster.
    Recorded { speed: f64 },
}

/// A longer backlog (after a stall of the broker or a suspended machine) is skipped instead of sent in one burst.
pub const MAX_BACKLOG: Duration = Duration::from_secs(5);

/// Longest wait: a recording may have any timestamp, and a rate may be close to zero.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |wait| wait.min(LONGEST))
}

/// The schedule of one run. It has no clock: the caller passes the time.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    begin: Instant,
    /// The first reading's timestamp, for [`Pace::Recorded`].
    first: Option<i64>,
    /// Time skipped after stalls.
    pub given_up: Duration,
}

impl Schedule {
    pub fn new(pace: Pace, begin: Instant) -> Self {
        Self { pace, begin, first: None, given_up: Duration::ZERO }
    }

    /// How long from `now` until message `number` (from 0) may be sent; zero if it is due.
    pub fn wait(&mut self, number: u64, now: Instant) -> Duration {
        match self.pace {
            Pace::Rate(rate) => self.until(seconds(number as f64 / rate), now),
            Pace::Unbounded | Pace::Recorded { .. } => Duration::ZERO,
        }
    }

    /// The same for a reading taken at `recorded_at` (milliseconds since the epoch), with the pace [`Pace::Recorded`].
    pub fn wait_for_reading(&mut self, recorded_at: i64, now: Instant) -> Duration {
        let Pace::Recorded { speed } = self.pace else { return Duration::ZERO };
        let first = *self.first.get_or_insert(recorded_at);
        // A recording may go back in time: such a reading is due at once.
        let millis = u64::try_from(recorded_at.saturating_sub(first)).unwrap_or(0);
        self.until(seconds(millis as f64 / 1000.0 / speed), now)
    }

    fn until(&mut self, due: Duration, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.begin);
        let behind = elapsed.saturating_sub(due);
        if behind > MAX_BACKLOG {
            let excess = behind - MAX_BACKLOG;
            self.begin += excess;
            self.given_up += excess;
        }
        due.saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends on the schedule for `seconds` of simulated time, sleeping with `oversleep` too much each time.
    fn sent(rate: f64, seconds: u64, oversleep: Duration) -> u64 {
        let begin = Instant::now();
        let mut schedule = Schedule::new(Pace::Rate(rate), begin);
        let (mut now, mut count) = (begin, 0);
        while now < begin + Duration::from_secs(seconds) {
            let wait = schedule.wait(count, now);
            if wait.is_zero() {
                count += 1;
            } else {
                now += wait + oversleep;
            }
        }
        count
    }

    #[test]
    fn the_rate_is_held_however_late_each_sleep_ends() {
        for oversleep in [0, 1, 7, 50] {
            let count = sent(5000.0, 30, Duration::from_millis(oversleep));
            let error = (count as f64 - 150_000.0).abs() / 150_000.0;
            assert!(error < 0.005, "{oversleep} ms: {count}");
        }
    }

    #[test]
    fn a_long_stall_is_not_made_up_for_in_one_burst() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(Pace::Rate(100.0), begin);
        let now = begin + Duration::from_secs(3600);
        let burst = (0..).take_while(|number| schedule.wait(*number, now).is_zero()).count();
        assert!((500..=502).contains(&burst), "{burst}");
        assert_eq!(schedule.given_up.as_secs(), 3595);
    }

    #[test]
    fn a_recording_keeps_its_gaps_divided_by_the_speed() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(Pace::Recorded { speed: 60.0 }, begin);
        assert!(schedule.wait_for_reading(1_000_000, begin).is_zero());
        assert_eq!(schedule.wait_for_reading(1_300_000, begin), Duration::from_secs(5));
        assert!(schedule.wait_for_reading(900_000, begin).is_zero());
    }

    #[test]
    fn a_wait_beyond_the_clocks_range_is_limited() {
        let begin = Instant::now();
        let mut recorded = Schedule::new(Pace::Recorded { speed: 1e-6 }, begin);
        assert!(recorded.wait_for_reading(0, begin).is_zero());
        assert_eq!(recorded.wait_for_reading(i64::MAX, begin), LONGEST);
        assert_eq!(Schedule::new(Pace::Rate(1e-300), begin).wait(1, begin), LONGEST);
        assert!(begin.checked_add(LONGEST).is_some());
    }
}
