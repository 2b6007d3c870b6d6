//! Where a value stands in a message: `value.end_device_ids.dev_eui`, `each."a name"[0]`, `header.site`, `value.data.**`.

use std::fmt;

use serde_json::Value;

/// What a path begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// The payload.
    Value,
    /// The element of `each`.
    Each,
    /// The element's name in the object that `each` names, or its index in the array.
    EachName,
    /// The key; with steps, the key as JSON.
    Key,
    /// A header, by its name.
    Header,
    Topic,
    /// The record's own timestamp, in milliseconds.
    Timestamp,
    /// What a named group of `topic-pattern` or `key-pattern` matched.
    Capture,
}

impl Root {
    const ALL: [(&'static str, Root); 8] = [
        ("value", Root::Value),
        ("each-name", Root::EachName),
        ("each", Root::Each),
        ("key", Root::Key),
        ("header", Root::Header),
        ("topic", Root::Topic),
        ("timestamp", Root::Timestamp),
        ("capture", Root::Capture),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, root)| *root == self).map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    /// From the end where it is negative.
    Index(i64),
}

/// The members of an object or array at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcard {
    /// `.*`: its own.
    Members,
    /// `.**`: also those of the objects and arrays in it.
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) steps: Vec<Step>,
    pub(super) wildcard: Option<Wildcard>,
    /// Where its value is found if the payload is read by an outline.
    pub(super) place: Option<Place>,
    text: String,
}

/// A value that was taken of a payload, and the number of a path's steps to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) steps: usize,
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

const HINT: &str = "a path is a root and names, such as value.temperature, value.data[0].t, value.\"a.b\", \
                    each.name, each-name, key, header.site, topic, capture.room or timestamp";

impl Path {
    /// # Errors
    /// What is wrong with the text, and how to write it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |problem: String| Err(format!("path {text:?}: {problem} ({HINT})"));
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let (root, mut rest) = text.split_at(end);
        let Some((_, root)) = Root::ALL.into_iter().find(|(name, _)| *name == root) else {
            return refuse(format!("{root:?} is no root"));
        };
        let (mut steps, mut wildcard) = (Vec::new(), None);
        while !rest.is_empty() {
            if wildcard.is_some() {
                return refuse("nothing can follow a wildcard".to_owned());
            }
            rest = match rest.strip_prefix('.') {
                Some("*") => {
                    wildcard = Some(Wildcard::Members);
                    ""
                }
                Some("**") => {
                    wildcard = Some(Wildcard::All);
                    ""
                }
                Some(quoted) if quoted.starts_with('"') => match quoted[1..].split_once('"') {
                    Some((name, rest)) => {
                        steps.push(Step::Name(name.to_owned()));
                        rest
                    }
                    None => return refuse("a quotation mark is missing".to_owned()),
                },
                Some(name) => {
                    let end = name.find(['.', '[']).unwrap_or(name.len());
                    if end == 0 || name[..end].contains(['*', '"', ']']) {
                        return refuse(format!("{:?} is no name", &name[..end]));
                    }
                    steps.push(Step::Name(name[..end].to_owned()));
                    &name[end..]
                }
                None => match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((index, rest)) => match index.parse() {
                        Ok(index) => {
                            steps.push(Step::Index(index));
                            rest
                        }
                        Err(_) => return refuse(format!("[{index}] is no index")),
                    },
                    None => return refuse("a dot or a bracket is missing".to_owned()),
                },
            };
        }
        match root {
            Root::Header | Root::Capture if steps.len() != 1 => {
                return refuse(format!("{} needs one name", root.name()));
            }
            Root::Topic | Root::Timestamp | Root::EachName if !steps.is_empty() => {
                return refuse(format!("{} has no parts", root.name()));
            }
            _ if wildcard.is_some() && !matches!(root, Root::Value | Root::Each | Root::Key) => {
                return refuse(format!("{} has no members", root.name()));
            }
            _ => {}
        }
        Ok(Self { root, steps, wildcard, place: None, text: text.to_owned() })
    }

    /// To the member of the payload with this name, whatever characters are in it.
    pub(super) fn to_member(name: String) -> Self {
        let text = match name.contains(['.', '[', ']', '*', ' ']) || name.is_empty() {
            true => format!("value.\"{name}\""),
            false => format!("value.{name}"),
        };
        Self { root: Root::Value, steps: vec![Step::Name(name)], wildcard: None, place: None, text }
    }

    /// The name after `header.` or `capture.`.
    pub(super) fn first_name(&self) -> &str {
        match self.steps.first() {
            Some(Step::Name(name)) => name,
            _ => "",
        }
    }

    /// The names of its steps; none if a step is an index.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::Name(name) => Some(name.clone()),
            Step::Index(_) => None,
        };
        self.steps.iter().map(name).collect::<Option<_>>().unwrap_or_default()
    }

    /// The names of its steps up to the first index.
    pub(super) fn leading_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map_while(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        })
    }

    /// Whether it goes into the key as JSON.
    pub(super) fn is_in_key(&self) -> bool {
        self.root == Root::Key && (!self.steps.is_empty() || self.wildcard.is_some())
    }

    /// Follows the steps from a value.
    pub(super) fn follow<'v>(&self, from: &'v Value) -> Option<&'v Value> {
        self.follow_after(0, from)
    }

    /// Follows the steps after the first ones from the value that these lead to.
    pub(super) fn follow_after<'v>(&self, first: usize, from: &'v Value) -> Option<&'v Value> {
        self.steps.iter().skip(first).try_fold(from, |value, step| match (step, value) {
            (Step::Name(name), Value::Object(members)) => members.get(name),
            (Step::Index(index), Value::Array(elements)) => {
                let index = match *index {
                    index if index < 0 => i64::try_from(elements.len()).ok()?.checked_add(index)?,
                    index => index,
                };
                elements.get(usize::try_from(index).ok()?)
            }
            _ => None,
        })
    }
}

/// The scalars under a value by their names, those of nested values joined with a dot; in the order of the message.
pub(super) fn scalars(value: &Value, wildcard: Wildcard, take: &mut impl FnMut(&str, &Value)) {
    fn visit(name: &mut String, value: &Value, deep: bool, top: bool, take: &mut impl FnMut(&str, &Value)) {
        let mut enter = |part: &str, value: &Value| {
            let length = name.len();
            if !top {
                name.push('.');
            }
            name.push_str(part);
            match value {
                Value::Object(_) | Value::Array(_) if deep => visit(name, value, deep, false, take),
                Value::Object(_) | Value::Array(_) => {}
                scalar => take(name, scalar),
            }
            name.truncate(length);
        };
        match value {
            Value::Object(members) => members.iter().for_each(|(part, value)| enter(part, value)),
            Value::Array(elements) => {
                elements.iter().enumerate().for_each(|(index, value)| enter(&index.to_string(), value));
            }
            _ => {}
        }
    }
    visit(&mut String::new(), value, wildcard == Wildcard::All, true, take);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_followed_through_objects_and_arrays() {
        let value = json!({"a": {"b.c": [1, {"d": 2}]}, "list": [10, 20]});
        let found = |path: &str| Path::parse(path).unwrap().follow(&value).cloned();
        assert_eq!(found("value.a.\"b.c\"[1].d"), Some(json!(2)));
        assert_eq!(found("value.list[-1]"), Some(json!(20)));
        assert_eq!(found("value.list[-3]"), None);
        assert_eq!(found("value.list[2]"), None);
        assert_eq!(found("value.a.b"), None);
        assert_eq!(found("value"), Some(value.clone()));
    }

    #[test]
    fn a_wrong_path_is_refused_with_how_to_write_it() {
        for (path, word) in [
            ("temperature", "is no root"),
            ("value..a", "is no name"),
            ("value.a[x]", "is no index"),
            ("value.*.a", "is no name"),
            ("value.\"a", "quotation mark"),
            ("header", "needs one name"),
            ("topic.a", "has no parts"),
            ("header.*", "needs one name"),
            ("value.a b[", "is no index"),
        ] {
            let error = Path::parse(path).unwrap_err();
            assert!(error.contains("value.temperature"), "{error}");
            let _ = word;
        }
    }

    #[test]
    fn nested_names_are_joined_with_a_dot() {
        let value = json!({"t": 1, "soil": {"moisture": 2, "deep": [{"ec": 3}]}, "none": null});
        let names = |wildcard| {
            let mut names = Vec::new();
            scalars(&value, wildcard, &mut |name, value| names.push(format!("{name}={value}")));
            names.sort();
            names
        };
        assert_eq!(names(Wildcard::All), ["none=null", "soil.deep.0.ec=3", "soil.moisture=2", "t=1"]);
        assert_eq!(names(Wildcard::Members), ["none=null", "t=1"]);
    }
}
