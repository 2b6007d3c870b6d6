//! CBOR and `MessagePack` as JSON, with what JSON has no form for: bytes are text in base64, and names of members that are numbers
//! are their digits. `MessagePack`'s timestamps, and CBOR's dates as text, are RFC 3339.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Number, Value};

/// Nested values are read this deep.
const MAX_DEPTH: usize = 128;

pub(super) fn message_pack(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(MAX_DEPTH);
    let value = Json::deserialize(&mut reader).map_err(|error| error.to_string())?;
    ends(rest)?;
    Ok(value.0)
}

pub(super) fn cbor(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let value: ciborium::Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
        .map_err(|error| error.to_string())?;
    ends(rest)?;
    Ok(of_cbor(value))
}

/// What follows the value would be lost.
fn ends(rest: &[u8]) -> Result<(), String> {
    match rest.len() {
        0 => Ok(()),
        count => Err(format!("{count} bytes are left over after the first value (send one value a message)")),
    }
}

/// SenML as CBOR (RFC 8428, 6) has numbers for the labels of SenML as JSON.
pub(super) fn with_labels(records: Value) -> Value {
    const LABELS: [(&str, &str); 15] = [
        ("-6", "bs"),
        ("-5", "bv"),
        ("-4", "bu"),
        ("-3", "bt"),
        ("-2", "bn"),
        ("-1", "bver"),
        ("0", "n"),
        ("1", "u"),
        ("2", "v"),
        ("3", "vs"),
        ("4", "vb"),
        ("5", "s"),
        ("6", "t"),
        ("7", "ut"),
        ("8", "vd"),
    ];
    let Value::Array(records) = records else { return records };
    let label = |name: String| match LABELS.iter().find(|(number, _)| *number == name) {
        Some((_, label)) => (*label).to_owned(),
        None => name,
    };
    let records = records.into_iter().map(|record| match record {
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (label(name), value)).collect())
        }
        other => other,
    });
    Value::Array(records.collect())
}

pub(super) fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

/// The name of a member, whatever it is.
fn name(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn integer(value: i128) -> Value {
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) => value.into(),
        _ => float(value as f64),
    }
}

fn of_cbor(value: ciborium::Value) -> Value {
    use ciborium::Value as Cbor;
    match value {
        Cbor::Bool(value) => value.into(),
        Cbor::Integer(value) => integer(value.into()),
        Cbor::Float(value) => float(value),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => base64(&bytes),
        Cbor::Array(elements) => elements.into_iter().map(of_cbor).collect(),
        Cbor::Map(members) => Value::Object(
            members.into_iter().map(|(key, value)| (name(of_cbor(key)), of_cbor(value))).collect(),
        ),
        Cbor::Tag(tag, inner) => tagged(tag, *inner),
        _ => Value::Null,
    }
}

/// Big whole numbers, decimal fractions and big floats (RFC 8949, 3.4) are numbers; other tags only say what a value is for.
fn tagged(tag: u64, inner: ciborium::Value) -> Value {
    let value = |digits: &[u8]| digits.iter().fold(0.0, |sum, digit| sum * 256.0 + f64::from(*digit));
    match (tag, &inner) {
        (2, ciborium::Value::Bytes(digits)) => float(value(digits)),
        (3, ciborium::Value::Bytes(digits)) => float(-1.0 - value(digits)),
        (4 | 5, ciborium::Value::Array(parts)) => {
            let parts: Vec<Value> = parts.iter().cloned().map(of_cbor).collect();
            match parts.as_slice() {
                [Value::Number(exponent), Value::Number(mantissa)] if tag == 4 => {
                    format!("{mantissa}e{exponent}").parse().map_or(Value::Null, float)
                }
                [exponent, mantissa] => match (exponent.as_f64(), mantissa.as_f64()) {
                    (Some(exponent), Some(mantissa)) => float(mantissa * exponent.exp2()),
                    _ => Value::Null,
                },
                _ => Value::Null,
            }
        }
        _ => of_cbor(inner),
    }
}

/// Any value of a format that says itself what its values are.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// The shortest decimal that the float stands for: 21.4 and not 21.399999618530273.
    fn visit_f32<E>(self, value: f32) -> Result<Value, E> {
        Ok(value.to_string().parse().map_or(Value::Null, float))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(base64(bytes))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// An extension of `MessagePack`: its type, and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let extension = deserializer.deserialize_any(self)?;
        let Some([kind, Value::String(data)]) = extension.as_array().map(Vec::as_slice) else {
            return Ok(extension);
        };
        match kind.as_i64() {
            Some(-1) => Ok(timestamp(&STANDARD.decode(data).unwrap_or_default()).unwrap_or(Value::Null)),
            _ => Ok(data.as_str().into()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = elements.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(Json(key)) = members.next_key()? {
            if key.is_array() || key.is_object() {
                return Err(de::Error::custom("the name of a member is an array or a map"));
            }
            let Json(value) = members.next_value()?;
            values.insert(name(key), value);
        }
        Ok(Value::Object(values))
    }
}

/// `MessagePack`'s timestamp of 32, 64 or 96 bits.
fn timestamp(data: &[u8]) -> Option<Value> {
    let (seconds, nanos) = match data.len() {
        4 => (i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(data.try_into().ok()?);
            (i64::try_from(both & 0x3_ffff_ffff).ok()?, both >> 34)
        }
        12 => {
            let (nanos, seconds) = data.split_at(4);
            (
                i64::from_be_bytes(seconds.try_into().ok()?),
                u64::from(u32::from_be_bytes(nanos.try_into().ok()?)),
            )
        }
        _ => return None,
    };
    let moment = jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    Some(moment.to_string().into())
}

#[cfg(test)]
mod tests {
    use ciborium::Value as Cbor;
    use serde_json::json;

    use super::*;

    fn of(value: &Cbor) -> Value {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        cbor(&bytes).unwrap()
    }

    #[test]
    fn what_json_has_no_form_for_is_text() {
        let map = Cbor::Map(vec![
            (Cbor::Integer(1.into()), Cbor::Bytes(vec![1, 2, 255])),
            (Cbor::Text("nan".to_owned()), Cbor::Float(f64::NAN)),
            (Cbor::Bool(true), Cbor::Null),
        ]);
        assert_eq!(of(&map), json!({"1": "AQL/", "nan": null, "true": null}));
        for (tag, inner, json) in [
            (0, Cbor::Text("2026-11-25T09:46:40Z".to_owned()), json!("2026-11-25T09:46:40Z")),
            (1, Cbor::Integer(1_795_600_000.into()), json!(1_795_600_000)),
            (4, Cbor::Array(vec![Cbor::Integer((-2).into()), Cbor::Integer(2155.into())]), json!(21.55)),
            (5, Cbor::Array(vec![Cbor::Integer((-1).into()), Cbor::Integer(3.into())]), json!(1.5)),
            (2, Cbor::Bytes(vec![1, 0, 0, 0, 0, 0, 0, 0, 0]), json!(18_446_744_073_709_551_616.0)),
            (99, Cbor::Array(vec![]), json!([])),
        ] {
            assert_eq!(of(&Cbor::Tag(tag, Box::new(inner))), json, "{tag}");
        }
    }

    #[test]
    fn message_pack_has_bytes_floats_timestamps_and_numbers_for_names() {
        // {1: 21.4 (32 bits), "b": bin(1, 2), "t": timestamp 32, "x": extension 5}
        let mut bytes = vec![0x84, 1, 0xca];
        bytes.extend(21.4_f32.to_be_bytes());
        bytes.extend([0xa1, b'b', 0xc4, 2, 1, 2, 0xa1, b't', 0xd6, 0xff]);
        bytes.extend(1_795_600_000_u32.to_be_bytes());
        bytes.extend([0xa1, b'x', 0xd4, 5, 7]);
        assert_eq!(
            message_pack(&bytes),
            Ok(json!({"1": 21.4, "b": "AQI=", "t": "2026-11-25T09:46:40Z", "x": "Bw=="}))
        );
        let mut long = vec![0xd7, 0xff];
        long.extend(((500_000_000_u64 << 34) | 1_795_600_000).to_be_bytes());
        assert_eq!(message_pack(&long), Ok(json!("2026-11-25T09:46:40.5Z")));
        assert!(message_pack(&[0x91; 10_000]).is_err() && cbor(&[0x81; 10_000]).is_err());
    }
}
