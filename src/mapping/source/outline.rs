//! The members of a JSON payload that the paths of a source lead to, taken while the payload is parsed: for what nobody asks
//! for, no value is made. What is refused is the same as where the whole payload becomes a value.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::mapping::path::{Path, Place, Root};

/// Where the paths of a source lead to.
#[derive(Debug)]
pub(super) struct Outline {
    root: Node,
}

/// What was taken of a payload, by slot.
pub(super) type Taken = Vec<Option<Value>>;

#[derive(Debug, Default)]
struct Node {
    /// Of itself and its members.
    slots: Range<usize>,
    /// A path ends here, or goes on by an index: the value is taken as it is.
    is_taken: bool,
    members: Vec<(String, Node)>,
}

impl Outline {
    /// Of all paths of a source; each path into the payload gets its place. `None` where the whole payload is asked for.
    pub(super) fn of(mut paths: Vec<&mut Path>) -> Option<Self> {
        paths.retain(|path| path.root == Root::Value);
        let mut root = Node::default();
        for path in &paths {
            root.enter(path.leading_names());
        }
        root.number(0);
        if root.is_taken {
            return None;
        }
        for path in paths {
            path.place = root.place(path.leading_names(), 0);
        }
        Some(Self { root })
    }

    /// # Errors
    /// It is no JSON.
    pub(super) fn take(&self, text: &str) -> Result<Taken, serde_json::Error> {
        let mut taken = vec![None; self.root.slots.len()];
        let mut parser = serde_json::Deserializer::from_str(text);
        Taking { node: Some(&self.root), taken: &mut taken }.deserialize(&mut parser)?;
        parser.end()?;
        Ok(taken)
    }
}

impl Node {
    fn enter<'p>(&mut self, mut names: impl Iterator<Item = &'p str>) {
        if self.is_taken {
            return;
        }
        let Some(name) = names.next() else {
            self.is_taken = true;
            self.members.clear();
            return;
        };
        let index = self.members.iter().position(|(member, _)| member == name).unwrap_or_else(|| {
            self.members.push((name.to_owned(), Self::default()));
            self.members.len() - 1
        });
        self.members[index].1.enter(names);
    }

    /// Gives out slots from `next` on.
    fn number(&mut self, next: usize) {
        let mut end = next + usize::from(self.is_taken);
        for (_, member) in &mut self.members {
            member.number(end);
            end = member.slots.end;
        }
        self.slots = next..end;
    }

    fn place<'p>(&self, mut names: impl Iterator<Item = &'p str>, steps: usize) -> Option<Place> {
        if self.is_taken {
            return Some(Place { slot: self.slots.start, steps });
        }
        let name = names.next()?;
        let (_, member) = self.members.iter().find(|(member, _)| member == name)?;
        member.place(names, steps + 1)
    }
}

/// Takes a value or what is in it, or passes over it. What it passes over it looks at as where a value is made: a number that is
/// too large, say, is refused wherever it is.
struct Taking<'a> {
    /// `None`: nothing in it is asked for.
    node: Option<&'a Node>,
    taken: &'a mut [Option<Value>],
}

impl<'de> DeserializeSeed<'de> for Taking<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some(node) = self.node else { return deserializer.deserialize_any(self) };
        // Of a name that comes twice, the last value counts.
        for slot in self.taken.get_mut(node.slots.clone()).into_iter().flatten() {
            *slot = None;
        }
        if !node.is_taken {
            return deserializer.deserialize_any(self);
        }
        let value = Value::deserialize(deserializer)?;
        if let Some(slot) = self.taken.get_mut(node.slots.start) {
            *slot = Some(value);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Taking<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Naming(self.node))? {
            map.next_value_seed(Taking { node, taken: &mut *self.taken })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Taking { node: None, taken: &mut *self.taken })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Finds the member of a node by its name.
struct Naming<'a>(Option<&'a Node>);

impl<'de, 'a> DeserializeSeed<'de> for Naming<'a> {
    type Value = Option<&'a Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Naming<'a> {
    type Value = Option<&'a Node>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let mut members = self.0.into_iter().flat_map(|node| &node.members);
        Ok(members.find(|(member, _)| member == name).map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON with few names, so that names come twice and paths lead somewhere.
    fn json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-12".to_owned()),
            Just("1.5".to_owned()),
            Just("1e999".to_owned()),
            Just(r#""text""#.to_owned()),
            Just(r#""\ud800""#.to_owned()),
        ];
        scalar.prop_recursive(4, 40, 5, |inner| {
            let members = prop::collection::vec(("[a-c]", inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
                members.prop_map(|members| {
                    let members: Vec<_> =
                        members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    fn path() -> impl Strategy<Value = String> {
        let step = prop_oneof![4 => "\\.[a-c]", 1 => "\\[-?[0-1]\\]"];
        (prop::collection::vec(step, 1..4), prop_oneof![3 => Just(""), 1 => Just(".*")])
            .prop_map(|(steps, wildcard)| format!("value{}{wildcard}", steps.concat()))
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_the_paths_find_in_the_whole(
            json in json(),
            texts in prop::collection::vec(path(), 1..6),
            tail in prop_oneof![4 => Just(""), 1 => Just(" x")],
        ) {
            let text = format!("{json}{tail}");
            let mut paths: Vec<Path> = texts.iter().map(|text| Path::parse(text).unwrap()).collect();
            let Some(outline) = Outline::of(paths.iter_mut().collect()) else { return Ok(()) };
            match (serde_json::from_str::<Value>(&text), outline.take(&text)) {
                (Ok(whole), Ok(taken)) => {
                    for path in &paths {
                        let place = path.place.expect("each path has a place");
                        let found = taken[place.slot].as_ref();
                        let found = found.and_then(|value| path.follow_after(place.steps, value));
                        prop_assert_eq!(found, path.follow(&whole), "{} in {}", path, text);
                    }
                }
                (Err(whole), Err(taken)) => prop_assert_eq!(whole.to_string(), taken.to_string()),
                (whole, taken) => prop_assert!(false, "{:?} but {:?}", whole, taken),
            }
        }
    }

    #[test]
    fn a_payload_that_is_asked_for_as_a_whole_has_no_outline() {
        for text in ["value.*", "value.**", "value[0].a"] {
            assert!(Outline::of(vec![&mut Path::parse(text).unwrap()]).is_none(), "{text}");
        }
    }

    #[test]
    fn a_payload_that_is_too_deep_is_refused_wherever_it_is() {
        let mut path = Path::parse("value.a").unwrap();
        let outline = Outline::of(vec![&mut path]).unwrap();
        let text = format!(r#"{{"b":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        let expected = serde_json::from_str::<Value>(&text).unwrap_err().to_string();
        assert_eq!(outline.take(&text).unwrap_err().to_string(), expected);
    }
}
