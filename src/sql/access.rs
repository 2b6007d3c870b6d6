//! The locations that a session may see. The tables themselves hold it, below SQL: no statement can widen it.

use std::sync::Arc;

/// Which locations a session may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// All of them, and rows that have none (dead letters).
    #[default]
    All,
    /// Those that match one of the patterns. In a pattern `*` stands for any text.
    Only(Arc<[String]>),
}

impl Access {
    /// The access that a list of patterns gives; `*` alone is all.
    pub fn of(patterns: &[String]) -> Self {
        match patterns.iter().any(|pattern| pattern == "*") {
            true => Self::All,
            false => Self::Only(patterns.into()),
        }
    }

    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    pub fn permits(&self, location: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| matches(pattern, location)),
        }
    }
}

/// Whether a text matches a pattern in which `*` stands for any text, also an empty one.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("plant-1", "plant-1", true),
            ("plant-1", "plant-11", false),
            ("plant-*", "plant-11", true),
            ("plant-*", "plant-", true),
            ("plant-*", "Plant-1", false),
            ("*-1", "plant-1", true),
            ("*-1", "plant-1x", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*ü*", "grün", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn only_a_star_alone_is_all() {
        assert!(Access::of(&["a".to_owned(), "*".to_owned()]).is_all());
        let some = Access::of(&["**".to_owned()]);
        assert!(!some.is_all() && some.permits("anything"));
        assert!(!Access::of(&[]).permits("plant-1"));
    }
}
