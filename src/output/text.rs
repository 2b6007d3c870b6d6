//! Text from outside, made safe to print: names of locations and metrics, payloads, topics and messages of servers may hold
//! characters that steer a terminal or reorder what stands beside them.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use indicatif::HumanCount;

use super::table::width;

/// The text with such characters as visible escapes: `\u{202e}` for a right-to-left override, `\u{1b}` for an escape.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Like [`visible`], for text of several lines: line ends and tabs stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| is_hidden(char) && char != '\n' && char != '\t')
}

/// Like [`visible`], for text that holds control characters on purpose, such as colours.
pub(super) fn visible_colored(text: &str) -> Cow<'_, str> {
    escaped(text, |char| is_hidden(char) && !char.is_control())
}

/// A text that is wider than `most` columns with `…` in the place of its middle: names differ at their ends.
pub(super) fn middle_cut(text: &str, most: u16) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let part = |chars: &mut dyn Iterator<Item = char>, room: u16| {
        let mut part = String::new();
        for char in chars {
            part.push(char);
            if width(&part) > room {
                part.pop();
                break;
            }
        }
        part
    };
    let start = part(&mut text.chars(), most / 2);
    let end = part(&mut text.chars().rev(), (most - 1) / 2);
    format!("{start}…{}", end.chars().rev().collect::<String>())
}

fn escaped(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_hidden(char) {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    Cow::Owned(shown)
}

/// Control characters; marks, embeddings, overrides and isolates of the bidirectional algorithm (Unicode UAX #9); line
/// separators; and characters without a width, which make two names look the same. The two joiners stay: Persian, Hindi and
/// emoji need them.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A count with its noun: "1 alert", "2 alerts".
pub fn plural<N: Display + From<u8> + PartialEq>(count: N, noun: &str) -> String {
    one_or_many(count, noun, &format!("{noun}s"))
}

/// A count with what depends on it: "1 row is bad", "2 rows are bad".
pub fn one_or_many<N: Display + From<u8> + PartialEq>(count: N, one: &str, many: &str) -> String {
    let rest = if count == N::from(1) { one } else { many };
    format!("{count} {rest}")
}

/// As [`plural`], with the digits in groups: "12,000 rows".
pub fn grouped(count: u64, noun: &str) -> String {
    plural(count, noun).replacen(&count.to_string(), &HumanCount(count).to_string(), 1)
}

/// A length of time as precise as people need it: `12s`, `3m 20s`, `5h 3m`, `12 d 4 h`.
pub fn length(seconds: u64) -> String {
    let precision = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    largest_units(seconds - seconds % precision)
}

/// The two largest units of a length of time: `2h 3m`, `23 d 22 h`, `41s`.
pub fn largest_units(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3_600);
    match (days, hours) {
        (0, _) => {
            let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
            text.split(' ').take(2).collect::<Vec<_>>().join(" ")
        }
        (days, 0) => format!("{days} d"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

/// The text in lines up to the column `terminal`; each but the first is indented. A word that has no room is not broken, and what
/// is in backticks is one word.
pub(super) fn hanging(text: &str, indent: usize, terminal: usize) -> String {
    /// With less there is no point in it.
    const LEAST: usize = 24;
    let room = terminal.saturating_sub(indent);
    if room < LEAST {
        return text.to_owned();
    }
    let mut lines = vec![String::new()];
    for word in words(text) {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            *line = word.to_owned();
        } else if usize::from(width(line)) + 1 + usize::from(width(word)) <= room {
            *line = format!("{line} {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Texts between blanks, and those in backticks with what adjoins them. A single backtick quotes nothing.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    let mut quoted = false;
    text.split(move |char| {
        quoted ^= char == '`' && is_paired;
        char == ' ' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_text_hangs_below_its_start_and_a_command_is_not_broken() {
        let text = "the keyspace is not in order (create it with `iotctl schema apply --dry-run`)";
        assert_eq!(
            hanging(text, 4, 40),
            "the keyspace is not in order (create\n    it with\n    `iotctl schema apply --dry-run`)"
        );
        assert_eq!(hanging(text, 4, 20), text, "there is no room to do better");
        assert_eq!(
            hanging("it's a ` alone and more words of it", 0, 24),
            "it's a ` alone and more\nwords of it"
        );
    }

    #[test]
    fn characters_that_steer_a_terminal_or_reorder_text_are_escaped() {
        assert_eq!(visible("plant\u{202e}1-tnalp"), "plant\\u{202e}1-tnalp");
        assert_eq!(visible("\u{1b}[31mred\u{7f}\u{9b}0m"), "\\u{1b}[31mred\\u{7f}\\u{9b}0m");
        assert_eq!(visible("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(visible("zero\u{200b}width\u{feff}"), "zero\\u{200b}width\\u{feff}");
        assert_eq!(visible_lines("a\nb\tc\r\u{2066}"), "a\nb\tc\\r\\u{2066}");
    }

    #[test]
    fn one_has_no_plural() {
        assert_eq!(
            [0_u64, 1, 2].map(|count| plural(count, "dead letter")),
            ["0 dead letters", "1 dead letter", "2 dead letters"]
        );
        assert_eq!([1, 12_000].map(|count| grouped(count, "row")), ["1 row", "12,000 rows"]);
    }

    #[test]
    fn a_length_of_time_has_its_two_largest_units() {
        assert_eq!(length(23 * 86_400 + 22 * 3_600 + 59), "23 d 22 h");
        assert_eq!(length(86_400 + 59), "1 d");
        assert_eq!(largest_units(400 * 86_400), "400 d");
        assert_eq!([59, 200, 5 * 3_600 + 185].map(largest_units), ["59s", "3m 20s", "5h 3m"]);
    }

    #[test]
    fn a_long_name_keeps_its_ends_whatever_it_is_written_in() {
        assert_eq!(middle_cut("sensor-17", 20), "sensor-17");
        assert_eq!(middle_cut("building-3-floor-2-room-A12-north", 20), "building-3…A12-north");
        let emoji = "👨‍🔧".repeat(60);
        assert!(width(&middle_cut(&emoji, 20)) <= 20);
        assert!(width(&middle_cut(&"温".repeat(85), 20)) <= 20);
    }

    #[test]
    fn ordinary_text_of_any_script_stays_as_it_is() {
        for text in ["plant-1", "Kühlhaus 3 °C", "مصنع", "工厂", "می‌خواهم", "👨‍🔧", "a'b\"c\\d"]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_in_any_text(text in "\\PC*|.*|[\u{200b}-\u{206f}]*") {
            prop_assert!(!visible(&text).contains(is_hidden));
            prop_assert!(!visible_lines(&text).contains(|char| is_hidden(char) && char != '\n' && char != '\t'));
        }
    }
}
