//! Values beyond a limit that the user sets.

use super::Finding;
use crate::series::Point;

/// The allowed range; at least one end is set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Values greater than this are found.
    pub above: Option<f64>,
    /// Values less than this are found.
    pub below: Option<f64>,
}

impl Limits {
    pub fn check(&self, point: Point) -> Option<Finding> {
        let beyond = |limit: f64| Finding { point, expected: limit, score: None };
        match *self {
            Self { above: Some(above), .. } if point.value > above => Some(beyond(above)),
            Self { below: Some(below), .. } if point.value < below => Some(beyond(below)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_itself_is_allowed() {
        let limits = Limits { above: Some(28.3), below: Some(5.0) };
        let check = |value: f64| limits.check(Point { at: 0, value });
        assert_eq!(check(28.3), None);
        assert_eq!(check(5.0), None);
        assert_eq!(check(28.4).unwrap().expected, 28.3);
        assert_eq!(check(4.9).unwrap().expected, 5.0);
    }
}
