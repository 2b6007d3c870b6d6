//! Text of pictures: what may stand in SVG, how wide it is, and where it is cut.

/// Text without control characters and without those that change the direction of what follows: names come from sensors.
pub(super) fn clean(text: &str) -> String {
    let turns = |char: char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let allowed = |char: char| !(char.is_control() || turns(char) || matches!(char, '\u{fffe}' | '\u{ffff}'));
    text.chars().map(|char| if allowed(char) { char } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Text for an element of SVG or HTML, [cleaned](clean).
pub(crate) fn escape(text: &str) -> String {
    clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About how wide a text is in DejaVu Sans or Verdana, in the unit of `size`; rather too wide than too narrow.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let em = |char: char| match char {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.34,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '-' | '/' | '·' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.99,
        'A'..='Z' => 0.76,
        char if char >= '\u{1100}' => 1.0,
        _ => 0.64,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// The text, with an ellipsis in its middle if it is wider than `room`: both ends of a name say more than its middle.
pub(super) fn fitting(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let mut kept = chars.len();
    while kept > 2 {
        kept -= 1;
        let (head, tail) = (kept - kept / 3, kept / 3);
        let cut: String = chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect();
        if width(&cut, size) <= room {
            return cut;
        }
    }
    "…".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_element_or_turn_the_line() {
        assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
        assert_eq!(escape("x\u{202e}y\u{0}z\u{1b}"), "x\u{fffd}y\u{fffd}z\u{fffd}");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        let name = format!("first{}last", "x".repeat(300));
        let cut = fitting(&name, 14.0, 400.0);
        assert!(cut.starts_with("first") && cut.ends_with("last") && cut.contains('…'), "{cut}");
        assert!(width(&cut, 14.0) <= 400.0);
        assert_eq!(fitting("short", 14.0, 400.0), "short");
    }
}
