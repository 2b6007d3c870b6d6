//! The parts of a message that are read by themselves: the outputs of `transform`, and the elements of `each`. Parts of one
//! sensor and moment are one reading.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::message::{Message, members, unmapped};
use super::{Identity, Source};
use crate::mapping::{Mapped, Record};
use crate::reading::decode::build::ReadingBuilder;
use crate::reading::{DecodeLimits, Rejection};

/// A part of a message.
pub(super) struct Part<'v> {
    /// The payload, or an output of `transform`.
    whole: &'v Value,
    /// The name and the value of an element of `each` in it.
    element: Option<(String, &'v Value)>,
}

impl<'m, 'r> Message<'m, 'r> {
    /// The same message with another value.
    pub(super) fn with_value<'v>(&self, value: &'v Value) -> Message<'v, 'r>
    where
        'm: 'v,
    {
        Message { value: Cow::Borrowed(value), key: self.key.clone(), each: None, ..*self }
    }

    /// The same message without its value.
    pub(super) fn without_value<'v>(&self) -> Message<'v, 'r>
    where
        'm: 'v,
    {
        Message { value: Cow::Owned(Value::Null), key: self.key.clone(), each: None, ..*self }
    }

    /// The message as one of its parts is read.
    fn of_part<'v>(&self, part: Part<'v>) -> Message<'v, 'r>
    where
        'm: 'v,
    {
        match part.element {
            None => self.with_value(part.whole),
            Some((name, element)) => {
                Message { each: Some((part.whole, name, element)), ..self.without_value() }
            }
        }
    }
}

impl Source {
    /// The parts of a message in their order. Among several outputs, one without the elements of `each` is at fault by itself.
    pub(super) fn parts<'v>(
        &self,
        values: &'v [Value],
    ) -> Result<Vec<Result<Part<'v>, Rejection>>, Rejection> {
        let Some(each) = &self.each else {
            return Ok(values.iter().map(|whole| Ok(Part { whole, element: None })).collect());
        };
        let mut parts = Vec::new();
        for whole in values {
            match each.follow(whole) {
                Some(found @ (Value::Array(_) | Value::Object(_))) => {
                    let elements = members(found).into_iter();
                    parts.extend(elements.map(|element| Ok(Part { whole, element: Some(element) })));
                }
                _ => {
                    let cause = unmapped("each", format!("{each} is not an array or object"));
                    match values.len() {
                        1 => return Err(cause),
                        _ => parts.push(Err(cause)),
                    }
                }
            }
        }
        Ok(parts)
    }

    pub(super) fn read_parts(
        &self,
        message: &Message<'_, '_>,
        parts: Vec<Result<Part<'_>, Rejection>>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        let count = parts.len();
        let mut left_out = 0;
        let mut mapped = Mapped::default();
        // Each with the index of its first part.
        let mut groups: Vec<(usize, Identity, Option<String>, ReadingBuilder)> = Vec::new();
        let mut places: HashMap<Identity, usize> = HashMap::new();
        for (index, part) in parts.into_iter().enumerate() {
            let fault = |cause: Rejection| Rejection::Element { index, count, cause: Box::new(cause) };
            match part.and_then(|part| self.read_part(message, part)) {
                Ok(None) => left_out += 1,
                Ok(Some((identity, sensor_name, builder))) => match places.get(&identity) {
                    Some(&place) => {
                        if let Err(cause) = groups[place].3.merge(builder) {
                            mapped.faults.push(fault(cause));
                        }
                    }
                    None => {
                        places.insert(identity.clone(), groups.len());
                        groups.push((index, identity, sensor_name, builder));
                    }
                },
                Err(cause) => mapped.faults.push(fault(cause)),
            }
        }
        for (index, identity, name, builder) in groups {
            mapped.replaced += builder.replaced();
            match builder.finish(identity, name, limits, now) {
                Ok(decoded) => mapped.take(decoded),
                Err(cause) => mapped.faults.push(Rejection::Element { index, count, cause: Box::new(cause) }),
            }
        }
        mapped.is_skipped = count > 0 && left_out == count;
        Ok(mapped)
    }

    /// `None` where `only_each` leaves it out.
    fn read_part(
        &self,
        message: &Message<'_, '_>,
        part: Part<'_>,
    ) -> Result<Option<(Identity, Option<String>, ReadingBuilder)>, Rejection> {
        if let Some((_, record)) = &part.element
            && let Some(problem) = self.problem_of(record)
        {
            return Err(problem);
        }
        if let Some((name, element)) = &part.element
            && !self.takes(message, name, element)?
        {
            return Ok(None);
        }
        self.element(&message.of_part(part)).map(Some)
    }

    /// What is wrong with a record that its format refuses by itself. A program may make texts, which are none of these.
    pub(super) fn problem_of(&self, record: &Value) -> Option<Rejection> {
        let problem = self.format.problem(record).filter(|_| self.transform.is_none())?;
        Some(Rejection::NotInFormat { format: self.format.name(), problem: problem.to_owned() })
    }

    /// Whether `only_each` holds for an element. The program is not given the whole payload, which would be copied for
    /// each of its elements.
    pub(super) fn takes(
        &self,
        message: &Message<'_, '_>,
        name: &str,
        element: &Value,
    ) -> Result<bool, Rejection> {
        let Some(only) = &self.only_each else { return Ok(true) };
        let mut about = message.to_json();
        about["each"] = element.clone();
        about["each_name"] = name.into();
        only.holds(about).map_err(|problem| unmapped("only_each", problem))
    }

    /// The sensor of a message that holds no reading, or of a part of it: as its values, its name may be the fault.
    pub(in crate::mapping) fn sensor_of(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        part: Option<usize>,
        limits: &DecodeLimits,
    ) -> Option<String> {
        // A payload that is not of its format may still be one whose key says it.
        let value = self.parse(record, limits).ok().flatten().unwrap_or_default();
        let message = self.message(record, captures, value);
        let (message, values) = match self.values(message) {
            Ok(found) => found,
            Err(_) => (self.message(record, captures, Value::Null), vec![Value::Null]),
        };
        let name = |message: &Message<'_, '_>| message.name("sensor", &self.sensor).ok();
        let mut names = self
            .parts(&values)
            .unwrap_or_default()
            .into_iter()
            .skip(part.unwrap_or(0))
            .map(|part| part.ok().and_then(|part| name(&message.of_part(part))));
        match part {
            Some(_) => names.next().flatten(),
            None => names.find_map(|name| name),
        }
    }

    /// Whether it leaves a message to the sources after it.
    pub(in crate::mapping) fn leaves(
        &self,
        record: &Record<'_>,
        captures: &HashMap<String, String>,
        limits: &DecodeLimits,
    ) -> bool {
        if !self.has_condition() {
            return false;
        }
        match self.parse(record, limits) {
            Ok(Some(value)) => matches!(self.holds(&self.message(record, captures, value)), Ok(false)),
            _ => false,
        }
    }
}
