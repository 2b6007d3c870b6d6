//! What would store a message that was refused: the key of the mapping file, by the reason and the error of its dead letter.

/// What to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// Of the mapping file, or of the configuration; empty where nothing in a file stores the message.
    pub key: &'static str,
    /// What to write there, or to do instead.
    pub remedy: &'static str,
}

/// For the reason and the error of a dead letter. `is_mapped` is whether its topic is read with a mapping.
pub fn advice(reason: &str, error: &str, is_mapped: bool) -> Advice {
    let advice = |key, remedy| Advice { key, remedy };
    // Elements of an array have the same causes as messages.
    let error = match error.strip_prefix("element ") {
        Some(rest) => rest.split_once(": ").map_or(error, |(_, cause)| cause),
        None => error,
    };
    match reason {
        "too_large" => {
            return advice("ingest.max_message_bytes", "raise it, and the topic's max.message.bytes");
        }
        "no_time" => return advice("recorded_timestamp.from", "the path of a column with the time"),
        "no_birth" => {
            return advice("", "have the edge node send its births again, then `iotctl dead-letters replay`");
        }
        "unknown_schema" => return advice("", "register the schema, then `iotctl dead-letters replay`"),
        "timestamp_out_of_range" => {
            return advice("recorded_timestamp.format", "the unit of the number: s, ms, us or ns");
        }
        "not_plain_json" if error.contains("schema registry") => {
            return advice("format", "\"avro\", \"protobuf\" or \"json-schema\"");
        }
        _ => {}
    }
    if !is_mapped {
        return advice(
            "ingest.mapping",
            "a mapping: begin with `iotctl mapping infer`, or a preset of `iotctl mapping list`",
        );
    }
    match reason {
        "not_json" | "not_plain_json" | "not_in_format" => {
            advice("format", "the format that the messages are in; `iotctl mapping infer` tells it")
        }
        "unusable_schema" => advice("format", "the format of the schema, or schema_file with another schema"),
        "no_source" => {
            advice("topics, key_pattern", "add the topic or key to a source; drop = true to skip it")
        }
        "number_out_of_range" => {
            advice("metrics.NAME.scale, null", "scale it, or list the value as \"not measured\"")
        }
        "bad_name" => advice("pattern, default", "cut the name out with a pattern, or give a default"),
        "too_many_metrics" => advice("fields.keep, fields.drop", "store fewer, or read the parts with each"),
        "nothing_understood" => advice("fields.from", "a path that ends with .** takes nested values too"),
        "ill_typed_field" => advice("words, null, decimal_comma", "say what the text stands for"),
        "missing_field" => {
            advice("", "it was refused without a mapping: `iotctl dead-letters replay` tries it by this one")
        }
        "unmapped" => unmapped(error.strip_prefix("mapping: ").unwrap_or(error)),
        _ => advice("", "see the error"),
    }
}

/// `error` begins with the key.
fn unmapped(error: &str) -> Advice {
    let advice = |key, remedy| Advice { key, remedy };
    let (key, problem) = error.split_once(": ").unwrap_or((error, ""));
    let is_missing = problem.contains("is missing");
    let is_pattern = problem.contains("does not fit the pattern");
    match key {
        "recorded_timestamp" if is_missing => {
            advice("recorded_timestamp.default", "\"timestamp\" takes the record's own time")
        }
        "recorded_timestamp" => {
            advice("recorded_timestamp.format, time_zone", "how the time is written, and where it is local")
        }
        "location" if is_missing => advice("location.default", "a text; or skip such messages with only"),
        "device_type" if is_missing => {
            advice("device_type.default", "a text; or skip such messages with only")
        }
        "sensor" if is_missing => {
            advice("sensor.from, only", "another path; or skip such messages with only")
        }
        "location" | "device_type" | "sensor" if is_pattern => {
            advice("pattern, default", "a pattern that fits, or a default where it does not")
        }
        "metrics" => {
            advice("only, fields.from", "skip such messages with only, or take more of their values")
        }
        "each" => advice("each, only", "the path to the elements; or skip messages without them with only"),
        "fields.name" => {
            advice("fields.name, only_each", "another path; or skip such elements with only_each")
        }
        "only" => advice("only", "a jq program that holds for other shapes too: .value.x? // false"),
        "only_each" => advice("only_each", "a jq program that holds for other shapes too: .each.x? // false"),
        "transform" => advice("transform", "a jq program that takes this message too; or skip it with only"),
        _ if is_pattern => {
            advice("metrics.NAME.pattern", "a pattern that fits, or null for words without a number")
        }
        _ => advice("unit, words, null", "a unit that is known, or what the text stands for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Rejection;

    fn key(rejection: &Rejection, is_mapped: bool) -> &'static str {
        advice(rejection.reason(), &rejection.to_string(), is_mapped).key
    }

    #[test]
    fn every_reason_has_an_advice() {
        for rejection in Rejection::examples() {
            for is_mapped in [false, true] {
                let found = advice(rejection.reason(), &rejection.to_string(), is_mapped);
                assert!(
                    !found.remedy.is_empty() && found.remedy != "see the error",
                    "{rejection}: {found:?}"
                );
            }
        }
        assert_eq!(key(&Rejection::MissingField("location"), false), "ingest.mapping");
    }

    #[test]
    fn the_key_is_the_one_that_the_error_is_about() {
        let unmapped = |key: &str, problem: &str| Rejection::Unmapped {
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        for (rejection, expected) in [
            (unmapped("recorded_timestamp", "value.ts is missing (set …)"), "recorded_timestamp.default"),
            (unmapped("recorded_timestamp", "\"x\" is not …"), "recorded_timestamp.format, time_zone"),
            (unmapped("location", "value.site is missing"), "location.default"),
            (unmapped("sensor", "\"x\" does not fit the pattern y"), "pattern, default"),
            (unmapped("metrics", "no metric of the mapping is in the message"), "only, fields.from"),
            (unmapped("temperature", "no unit"), "unit, words, null"),
        ] {
            assert_eq!(key(&rejection, true), expected, "{rejection}");
            let element = Rejection::Element { index: 1, count: 3, cause: Box::new(rejection) };
            assert_eq!(key(&element, true), expected, "{element}");
        }
    }
}
