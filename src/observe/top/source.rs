//! A source's last answer, and values over time.

use std::collections::VecDeque;

/// As wide as any terminal's sparkline.
const MAX_HISTORY: usize = 512;

/// What one source (Kafka, Cassandra) last answered, and why it does not answer now.
#[derive(Debug, Clone, PartialEq)]
pub enum Source<T> {
    /// No answer yet.
    Asking,
    Known(T),
    /// `last` is the last answer, if there was one.
    Unreachable {
        reason: String,
        last: Option<T>,
    },
}

impl<T> Source<T> {
    pub fn last(&self) -> Option<&T> {
        match self {
            Self::Known(look) => Some(look),
            Self::Unreachable { last, .. } => last.as_ref(),
            Self::Asking => None,
        }
    }

    fn into_last(self) -> Option<T> {
        match self {
            Self::Known(look) => Some(look),
            Self::Unreachable { last, .. } => last,
            Self::Asking => None,
        }
    }

    /// Replaces the last answer; returns the previous one if both are known.
    pub(super) fn replace(&mut self, look: Result<T, String>) -> Option<T> {
        match (look, std::mem::replace(self, Self::Asking)) {
            (Ok(look), Self::Known(before)) => {
                *self = Self::Known(look);
                Some(before)
            }
            (Ok(look), _) => {
                *self = Self::Known(look);
                None
            }
            (Err(reason), before) => {
                *self = Self::Unreachable { reason, last: before.into_last() };
                None
            }
        }
    }
}

/// Values over time, newest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(VecDeque<u64>);

impl History {
    pub fn push(&mut self, value: f64) {
        if self.0.len() == MAX_HISTORY {
            self.0.pop_front();
        }
        self.0.push_back(value.max(0.0) as u64);
    }

    /// The newest `width` values.
    pub fn newest(&self, width: usize) -> Vec<u64> {
        self.0.iter().skip(self.0.len().saturating_sub(width)).copied().collect()
    }
}
