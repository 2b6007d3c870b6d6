//! What rules remember of a sensor, as bytes: stored by `ingest` and read back after a restart.
//!
//! A version, and MessagePack in zlib's format, which has a checksum. What another version has written, or what is damaged, is refused, and the
//! sensor begins anew. Rules are known by name: one that judges otherwise than before keeps its episode and not its window.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::alert::Alert;
use super::detector::Watch;

/// To be raised when anything that is serialised here changes its form.
const VERSION: u8 = 1;
/// Beyond this, no state is read.
const MOST_BYTES: u64 = 64 << 20;

/// Why a state is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("it was written by another version of iotctl")]
    Version,
    #[error("it is damaged")]
    Damaged,
}

/// Of one sensor in one partition. Borrowed where it is written, owned where it is read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept<N, W> {
    pub rules: Vec<KeptRule<N, W>>,
    pub silence: Option<KeptSilence>,
}

/// Of one rule.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptRule<N, W> {
    pub name: N,
    /// What the rule judges by; see [`super::Rules`].
    pub fingerprint: Uuid,
    pub watch: W,
}

/// What rules about silence remember.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptSilence {
    pub location: String,
    pub device_type: String,
    pub name: Option<String>,
    pub newest: i64,
    pub fired: Vec<KeptAlert>,
}

/// An alert.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptAlert(#[serde(with = "by_name")] pub Alert);

/// MessagePack with the names of fields, because alerts leave fields out; as text, so that it can be part of the rest. JSON would
/// change the last digits of numbers.
pub(super) mod by_name {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, DeserializeOwned, Deserializer, Serialize, Serializer};

    pub(in crate::alerting) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = rmp_serde::to_vec_named(value).map_err(serde::ser::Error::custom)?;
        STANDARD.encode(bytes).serialize(serializer)
    }

    pub(in crate::alerting) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        rmp_serde::from_slice(&bytes).map_err(serde::de::Error::custom)
    }
}

/// The bytes of a state, not compressed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawState(Vec<u8>);

impl RawState {
    pub(super) fn of(kept: &Kept<&str, &Watch>) -> Self {
        // Everything in it has a form in MessagePack.
        Self(rmp_serde::to_vec(kept).unwrap_or_default())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Compresses states, one after another: what it needs for it is more than most states have, and made once.
pub struct Sealer(ZlibEncoder<Vec<u8>>);

impl Default for Sealer {
    fn default() -> Self {
        Self(ZlibEncoder::new(vec![VERSION], Compression::fast()))
    }
}

impl Sealer {
    /// A state as it is stored.
    pub fn seal(&mut self, state: &RawState) -> Vec<u8> {
        // Nothing fails that is written to memory.
        self.0.write_all(&state.0).and_then(|()| self.0.reset(vec![VERSION])).unwrap_or_default()
    }
}

/// Reads what [`Sealer::seal`] has written.
pub(super) fn open(bytes: &[u8]) -> Result<Kept<String, Watch>, StateError> {
    let body = match bytes.split_first() {
        Some((&VERSION, body)) => body,
        Some(_) => return Err(StateError::Version),
        None => return Err(StateError::Damaged),
    };
    let mut raw = Vec::new();
    let read = ZlibDecoder::new(body).take(MOST_BYTES).read_to_end(&mut raw);
    read.map_err(|_| StateError::Damaged)?;
    rmp_serde::from_slice(&raw).map_err(|_| StateError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::alert::State;
    use super::super::{Detector, Rules};
    use super::*;
    use crate::kafka::TopicPartition;
    use crate::reading::Reading;

    const MINUTE: i64 = 60_000;
    const SENSORS: u128 = 3;
    /// One of each kind.
    const RULES: &str = r#"
        [[rule]]
        name = "hot"
        metric = "temperature"
        for = "3m"
        threshold = { above = 8, hysteresis = 2 }
        [[rule]]
        name = "odd"
        metric = "temperature"
        robust-z = { readings = 20, sensitivity = 1.0 }
        [[rule]]
        name = "jump"
        metric = "temperature"
        labels = { team = "cooling" }
        change = { rise = 6, within = "5m" }
        [[rule]]
        name = "strange"
        metric = "temperature"
        online = { sensitivity = 1.0 }
        [[rule]]
        name = "fast"
        metric = "temperature"
        rate = { above = 5, per = "min" }
        [[rule]]
        name = "stuck"
        metric = "temperature"
        stuck = { readings = 3, tolerance = 1 }
        [[rule]]
        name = "unlike"
        metric = "temperature"
        peers = { above = 7, below = -7, within = "10m" }
        [[rule]]
        name = "quiet"
        silent = { after = "90s" }
    "#;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("readings", partition)
    }

    fn detector(rules: &str) -> Detector {
        let mut detector = Detector::new(Rules::parse(rules).unwrap());
        detector.note_changes();
        detector
    }

    fn reading(index: usize, value: i16) -> Reading<'static> {
        Reading {
            location: "plant-1".into(),
            device_type: "thermostat".into(),
            sensor: Uuid::from_u128(index as u128 % SENSORS),
            sensor_name: Some("th".into()),
            sensor_tags: Vec::new(),
            // Readings that are missing make silences.
            recorded_at: (index as i64 / SENSORS as i64 + index as i64 / 50) * MINUTE,
            temperature: Some(value.into()),
            humidity: None,
            pressure: None,
            motion_detected: None,
            light_level: None,
            gas_concentration: None,
            other_metrics: Vec::new(),
            states: Vec::new(),
        }
    }

    /// The alerts of readings, without the moment of detection.
    fn alerts(detector: &mut Detector, values: &[i16], from: usize, to: usize) -> Vec<Alert> {
        let mut raised = Vec::new();
        for (index, value) in values.iter().enumerate().take(to).skip(from) {
            detector.observe(of(0), &reading(index, *value), |alert| {
                raised.push(Alert { detected_timestamp: alert.recorded_timestamp, ..alert });
            });
        }
        raised
    }

    /// All states of a partition, as they are stored.
    fn states(detector: &mut Detector) -> Vec<(Uuid, Vec<u8>)> {
        let (changed, mut sealer) = (detector.take_changed(of(0)), Sealer::default());
        changed
            .into_iter()
            .map(|sensor| (sensor, sealer.seal(&detector.state(of(0), sensor).unwrap())))
            .collect()
    }

    fn restore(detector: &mut Detector, states: &[(Uuid, Vec<u8>)]) -> Vec<Alert> {
        let mut raised = Vec::new();
        for (sensor, state) in states {
            detector.restore(of(0), *sensor, state, |alert| raised.push(alert)).unwrap();
        }
        raised
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_read_back_at_any_point_raises_the_alerts_of_one_that_never_stopped(
            values in prop::collection::vec(prop_oneof![8 => -4i16..9, 1 => 9i16..40], 2..400),
            cuts in prop::collection::vec(0usize..400, 0..4),
            again in 0usize..40,
        ) {
            let whole = alerts(&mut detector(RULES), &values, 0, values.len());
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % values.len()).collect();
            cuts.sort_unstable();
            let (mut ours, mut raised, mut begin) = (detector(RULES), Vec::new(), 0);
            for cut in cuts {
                raised.extend(alerts(&mut ours, &values, begin, cut));
                let mut kept = states(&mut ours);
                let mut next = detector(RULES);
                prop_assert_eq!(restore(&mut next, &kept), []);
                // Messages of before come again, and change nothing.
                let committed = cut.saturating_sub(again);
                prop_assert_eq!(alerts(&mut next, &values, committed, cut), []);
                // All of them are on the list after a restart of the restored one too.
                for sensor in kept.iter().map(|(sensor, _)| *sensor) {
                    next.mark_changed(of(0), sensor);
                }
                kept.sort_unstable();
                let mut same = states(&mut next);
                same.sort_unstable();
                prop_assert_eq!(same, kept);
                for sensor in 0..SENSORS {
                    next.mark_changed(of(0), Uuid::from_u128(sensor));
                }
                (ours, begin) = (next, cut);
            }
            raised.extend(alerts(&mut ours, &values, begin, values.len()));
            prop_assert_eq!(raised, whole);
        }

        #[test]
        fn bytes_of_any_kind_are_refused_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(detector(RULES).restore(of(0), Uuid::nil(), &bytes, |_| ()).is_err());
        }

        #[test]
        fn a_state_with_a_changed_byte_is_refused_or_the_same(place in any::<prop::sample::Index>(), bits in 1u8..) {
            let mut from = detector(RULES);
            let values: Vec<i16> = (0..90).map(|index| index % 7).collect();
            alerts(&mut from, &values, 0, 90);
            let (sensor, mut state) = states(&mut from).remove(0);
            let place = place.index(state.len());
            state[place] ^= bits;
            let mut to = detector(RULES);
            if to.restore(of(0), sensor, &state, |_| ()).is_ok() {
                to.mark_changed(of(0), sensor);
                prop_assert_eq!(to.state(of(0), sensor), from.state(of(0), sensor));
            }
        }
    }

    #[test]
    fn each_kind_of_rule_raises_alerts_here() {
        let values: Vec<i16> =
            (0..400).map(|index: i16| if index % 61 < 9 { 30 } else { index * 7 % 5 }).collect();
        let raised = alerts(&mut detector(RULES), &values, 0, values.len());
        for rule in ["hot", "odd", "jump", "strange", "fast", "stuck", "unlike", "quiet"] {
            assert!(raised.iter().any(|alert| alert.rule == rule), "{rule}");
        }
    }

    const HOT: &str = "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nlocation = \"plant-1\"\nthreshold = { above = 8 }\n";
    const QUIET: &str = "[[rule]]\nname = \"quiet\"\nsilent = { after = \"90s\" }\n";
    const COLD: &str = "[[rule]]\nname = \"cold\"\nmetric = \"temperature\"\nthreshold = { below = -50 }\n";

    /// A sensor that is hot and then silent.
    fn firing() -> Detector {
        let mut detector = detector(&[HOT, QUIET].concat());
        let mut raised = alerts(&mut detector, &[9; 4], 0, 4);
        detector.judge_silence(|of| of.map(|_| 10 * MINUTE), |alert| raised.push(alert));
        assert_eq!(raised.len(), 6, "three sensors by two rules: {raised:?}");
        detector
    }

    fn ended(raised: &[Alert]) -> Vec<(&str, u128)> {
        assert!(raised.iter().all(|alert| alert.state == State::Resolved), "{raised:?}");
        let mut ended: Vec<_> =
            raised.iter().map(|alert| (&*alert.rule, alert.iot_sensor_id.as_u128())).collect();
        ended.sort_unstable();
        ended
    }

    #[test]
    fn what_fires_by_a_rule_that_is_gone_is_resolved_after_a_reload_and_after_a_restart() {
        let all = [("hot", 0), ("hot", 1), ("hot", 2), ("quiet", 0), ("quiet", 1), ("quiet", 2)];
        let (mut reloaded, mut raised) = (firing(), Vec::new());
        let before = states(&mut reloaded);
        reloaded.replace(Rules::parse(COLD).unwrap(), |alert| raised.push(alert));
        assert_eq!(ended(&raised), all);
        // After a restart it is the same alert, and it is raised once.
        let mut restarted = detector(COLD);
        let again = restore(&mut restarted, &before);
        let ids = |alerts: &[Alert]| {
            let mut ids: Vec<_> = alerts.iter().map(|alert| alert.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&again), ids(&raised));
        assert_eq!(restore(&mut detector(COLD), &states(&mut restarted)), []);
        assert_eq!(restore(&mut detector(COLD), &states(&mut reloaded)), []);
    }

    #[test]
    fn a_rule_that_is_no_longer_about_a_sensor_ends_there_and_one_with_another_limit_goes_on() {
        let elsewhere = HOT.replace("plant-1", "plant-2");
        let (mut reloaded, mut raised) = (firing(), Vec::new());
        let before = states(&mut reloaded);
        reloaded.replace(Rules::parse(&[&elsewhere, QUIET].concat()).unwrap(), |alert| raised.push(alert));
        assert_eq!(ended(&raised), [("hot", 0), ("hot", 1), ("hot", 2)]);
        let restored = restore(&mut detector(&[&elsewhere, QUIET].concat()), &before);
        assert_eq!(ended(&restored), [("hot", 0), ("hot", 1), ("hot", 2)]);
        // Another limit: the episode goes on, and ends by the new one.
        let mut other = detector(&[&HOT.replace('8', "5"), QUIET].concat());
        assert_eq!(restore(&mut other, &before), []);
        let mut values = [9; 40];
        values[36..].fill(4);
        let raised = alerts(&mut other, &values, 30, 40);
        let hot: Vec<_> = raised.iter().filter(|alert| alert.rule == "hot").cloned().collect();
        assert_eq!(ended(&hot), [("hot", 0), ("hot", 1), ("hot", 2)]);
        // A silence that fired before the restart ends after it.
        let quiet: Vec<_> = raised.iter().filter(|alert| alert.rule == "quiet").cloned().collect();
        assert_eq!(ended(&quiet), [("quiet", 0), ("quiet", 1), ("quiet", 2)]);
    }

    #[test]
    fn another_version_and_an_empty_state_are_named() {
        let mut from = firing();
        let (sensor, mut state) = states(&mut from).remove(0);
        state[0] = VERSION + 1;
        let mut to = detector(HOT);
        assert_eq!(to.restore(of(0), sensor, &state, |_| ()), Err(StateError::Version));
        assert_eq!(to.restore(of(0), sensor, &[], |_| ()), Err(StateError::Damaged));
    }
}
