//! Times of the week, and when a rule does not fire: quiet hours and maintenance windows.

use crate::time::{self, DAY, Zone};

const MINUTE: i64 = 60_000;
/// 1970-01-01 was the fourth day of its week.
const FIRST_WEEKDAY: i64 = 3;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of some days of the week, such as `mon-fri 06:00-22:00`. Hours that end before they begin go on to the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weekly {
    /// From Monday on.
    days: [bool; 7],
    /// Milliseconds since midnight.
    from: i64,
    /// Exclusive.
    to: i64,
}

/// When a rule does not fire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    pub zone: Zone,
    pub quiet: Vec<Weekly>,
    /// Milliseconds since the epoch; the end is exclusive.
    pub maintenance: Vec<(i64, i64)>,
}

impl Schedule {
    /// Whether a rule must not begin to fire at this time.
    pub(in crate::alerting) fn is_quiet(&self, at: i64) -> bool {
        self.maintenance.iter().any(|(from, to)| (*from..*to).contains(&at))
            || self.quiet.iter().any(|weekly| weekly.contains(self.zone, at))
    }
}

impl Weekly {
    /// # Errors
    /// How to write it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a time of the week (write \"mon-fri 06:00-22:00\", \"sat,sun\" or \"22:00-06:00\")"
            )
        };
        let mut weekly = Self { days: [true; 7], from: 0, to: DAY };
        let words: Vec<_> = text.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [days, hours] => (Some(*days), Some(*hours)),
            [one] if one.contains(':') => (None, Some(*one)),
            [one] => (Some(*one), None),
            _ => return Err(wrong()),
        };
        if let Some(days) = days {
            weekly.days = parse_days(days).ok_or_else(wrong)?;
        }
        if let Some(hours) = hours {
            let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
            (weekly.from, weekly.to) = (clock(from).ok_or_else(wrong)?, clock(to).ok_or_else(wrong)?);
            if weekly.from == weekly.to || weekly.from == DAY || weekly.to == 0 {
                return Err(wrong());
            }
        }
        Ok(weekly)
    }

    /// Whether it is this time of the week, by the clock of the zone.
    pub(in crate::alerting) fn contains(&self, zone: Zone, at: i64) -> bool {
        let wall = at.saturating_add(zone.offset(at));
        let day = (wall.div_euclid(DAY) + FIRST_WEEKDAY).rem_euclid(7) as usize;
        let of_day = wall.rem_euclid(DAY);
        let is_on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.to {
            return is_on(day) && (self.from..self.to).contains(&of_day);
        }
        // The part after midnight belongs to the day before.
        (is_on(day) && of_day >= self.from) || (is_on(day + 6) && of_day < self.to)
    }
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        let count = (last + 7 - first) % 7;
        for day in 0..=count {
            *days.get_mut((first + day) % 7)? = true;
        }
    }
    Some(days)
}

/// `hh:mm`, up to 24:00, in milliseconds since midnight.
fn clock(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(i64::from);
    let of_day = (number(hours)? * 60 + number(minutes).filter(|minutes| *minutes < 60)?) * MINUTE;
    (of_day <= DAY).then_some(of_day)
}

/// A stretch of time between two moments.
pub(super) fn stretch(from: &str, to: &str, zone: Zone) -> Result<(i64, i64), String> {
    let moment = |text: &str| {
        time::moment(text, zone, time::now()).map_err(|error| format!("schedule.maintenance: {error}"))
    };
    let (from, to) = (moment(from)?, moment(to)?);
    if from >= to {
        return Err("schedule.maintenance: to must be after from".to_owned());
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        time::rfc3339(text).unwrap()
    }

    #[test]
    fn hours_beyond_midnight_belong_to_the_day_on_which_they_begin() {
        let night = Weekly::parse("fri 22:00-06:00").unwrap();
        // 2026-11-27 is a Friday.
        for (moment, is_in) in [
            ("2026-11-27T21:59:00Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:00Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T23:00:00Z", false),
            ("2026-11-27T01:00:00Z", false),
        ] {
            assert_eq!(night.contains(Zone::Utc, at(moment)), is_in, "{moment}");
        }
    }

    #[test]
    fn hours_are_those_of_the_zone_before_and_after_its_clocks_change() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let day = Weekly::parse("06:00-18:00").unwrap();
        assert!(
            !day.contains(berlin, at("2026-07-01T03:59:00Z"))
                && day.contains(berlin, at("2026-07-01T04:00:00Z"))
        );
        assert!(
            !day.contains(berlin, at("2026-12-01T04:59:00Z"))
                && day.contains(berlin, at("2026-12-01T05:00:00Z"))
        );
    }

    #[test]
    fn days_wrap_around_the_week_and_other_texts_are_refused() {
        let weekend = Weekly::parse("sat-mon").unwrap();
        assert_eq!(weekend.days, [true, false, false, false, false, true, true]);
        assert_eq!(Weekly::parse("Mon,wed 00:00-24:00").unwrap().to, DAY);
        for wrong in ["", "day", "25:00-26:00", "06:00", "06:00-06:00", "6:00-7:00", "mon tue 06:00-07:00"] {
            assert!(Weekly::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schedule_is_quiet_in_its_hours_and_in_maintenance() {
        let maintenance = vec![stretch("2026-12-24T00:00:00Z", "2026-12-27T00:00:00Z", Zone::Utc).unwrap()];
        let schedule = Schedule { zone: Zone::Utc, quiet: vec![Weekly::parse("sun").unwrap()], maintenance };
        for (moment, is_quiet) in
            [("2026-12-25T12:00:00Z", true), ("2026-12-28T12:00:00Z", false), ("2026-11-29T12:00:00Z", true)]
        {
            assert_eq!(schedule.is_quiet(at(moment)), is_quiet, "{moment}");
        }
    }
}
