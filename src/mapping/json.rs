//! JSON as devices write it: with a byte-order mark (RFC 8259, 8.1, lets a reader ignore it), or with a word where a number is
//! not one, as `printf` and Python's `json.dumps` do.

use serde_json::Value;

use crate::reading::Rejection;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// What programs write for a number that is none.
const NOT_A_NUMBER: [&[u8]; 3] = [b"nan", b"inf", b"infinity"];

pub(super) fn value(bytes: &[u8]) -> Result<Value, Rejection> {
    strict(bytes).or_else(|error| {
        plain(bytes).and_then(|plain| strict(&plain).ok()).ok_or_else(|| Rejection::not_json(bytes, &error))
    })
}

/// Values one after another. Where one of several lines is not JSON, it is the problem with it, after [`REFUSED`].
pub(super) fn lines(bytes: &[u8]) -> Result<Vec<Value>, Rejection> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    values.or_else(|error| good_lines(bytes).ok_or_else(|| Rejection::not_json(bytes, &error)))
}

/// `None` unless most of the lines are JSON: values that are not one a line would be pieces.
fn good_lines(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut lines = Vec::new();
    let mut refused = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match value(line) {
            Ok(value) => lines.push(value),
            Err(error) => {
                refused += 1;
                lines.push(format!("{REFUSED}line {}: {error}", index + 1).into());
            }
        }
        if refused > MOST_REFUSED {
            return None;
        }
    }
    (refused * 2 < lines.len()).then_some(lines)
}

/// Lines of one message that are refused by themselves. With more of them, the message is refused.
pub(super) const MOST_REFUSED: usize = 1_000;

/// Before the problem with a line: no text of a line begins with it.
pub(super) const REFUSED: char = '\0';

fn strict(bytes: &[u8]) -> serde_json::Result<Value> {
    // One look at the whole payload costs less than one at each of its strings.
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// The same without a byte-order mark, and with null for numbers that are none. `None` if it has neither.
fn plain(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut plain = Vec::with_capacity(body.len());
    let mut is_text = false;
    let mut rest = body;
    while let [byte, after @ ..] = rest {
        let taken = match byte {
            b'\\' if is_text => 2.min(rest.len()),
            b'"' => {
                is_text = !is_text;
                1
            }
            _ if is_text => 1,
            _ => match not_a_number(rest) {
                Some(length) => {
                    plain.extend_from_slice(b"null");
                    rest = &rest[length..];
                    continue;
                }
                // A whole word, so that the end of one is not taken for another.
                None => {
                    1 + after
                        .iter()
                        .take_while(|next| byte.is_ascii_alphabetic() && next.is_ascii_alphabetic())
                        .count()
                }
            },
        };
        plain.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    (plain != bytes).then_some(plain)
}

/// The length of a word such as `NaN` or `-Infinity` that a text begins with.
fn not_a_number(text: &[u8]) -> Option<usize> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let word = text[sign..].split(|byte| !byte.is_ascii_alphabetic()).next()?;
    let is_known = NOT_A_NUMBER.iter().any(|known| word.eq_ignore_ascii_case(known));
    is_known.then_some(sign + word.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_is_none_is_null_and_a_byte_order_mark_is_ignored() {
        for (text, expected) in [
            (
                r#"{"t":NaN,"u":-Infinity,"v":[nan, -nan,inf ,1]}"#,
                json!({"t": null, "u": null, "v": [null, null, null, 1]}),
            ),
            (r#"{"NaN":"NaN \" nan","t":-inf}"#, json!({"NaN": "NaN \" nan", "t": null})),
            ("\u{feff}{\"t\":-1}", json!({"t": -1})),
            ("\u{feff}[nan]", json!([null])),
        ] {
            assert_eq!(value(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in [
            "{\"t\":nano}",
            "{\"t\":1nan}",
            "{\"t\":nan",
            "{nan:1}",
            "\u{feff}",
            "\"\\",
            "NaNNaN",
            "{\"t\":Xnan}",
        ] {
            assert!(value(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_not_json_is_at_fault_by_itself() {
        let text = b"{\"t\":1}\n{\"t\":\n{\"t\":nan}\r\n\n{\"t\":4}";
        let found = lines(text).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(
            [&found[0], &found[2], &found[3]],
            [&json!({"t": 1}), &json!({"t": null}), &json!({"t": 4})]
        );
        assert!(found[1].as_str().is_some_and(|problem| problem.starts_with("\0line 2: ")), "{}", found[1]);
        assert!(lines(b"{\"t\":1\n,\"u\":}").is_err() && lines(b"hello").is_err());
    }
}
