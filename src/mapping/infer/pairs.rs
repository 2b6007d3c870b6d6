//! Pairs of the name of what is measured and its value.

use serde_json::Value;

use super::draft::Found;
use super::observed::Place;
use super::{names, times};

/// The pair of a name and a value that the elements are, if they are.
pub(super) fn pair(found: &Found<'_>) -> Option<(Place, Place)> {
    let root = if found.each.is_some() { "each" } else { "value" };
    let direct = || found.places.iter().filter(|place| place.parent() == root);
    let ranked = |rank: fn(&str) -> Option<usize>, is_name: bool| {
        direct()
            .filter(|place| !is_name || place.examples.iter().all(Value::is_string))
            .filter_map(|place| Some((rank(place.last_name())?, place)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, place)| place.clone())
    };
    let (Some(name), Some(value)) =
        (ranked(names::pair_name_rank, true), ranked(names::pair_value_rank, false))
    else {
        return nested_pair(found, root);
    };
    // A name beside other numbers is that of the sensor.
    let has_others = direct().any(|place| {
        place.path != value.path
            && place.is_number()
            && names::time_rank(place.last_name()).is_none()
            && names::sensor_rank(place.last_name()).is_none()
            && times::format(&place.examples).is_none()
    });
    (!has_others && name.path != value.path).then_some((name, value))
}

/// The pair in an object of the elements: `{"event": {"attribute": "temperature", "value": 21.5}}`. Its name has to say that it
/// is one, because other objects have a value and a kind too.
fn nested_pair(found: &Found<'_>, root: &str) -> Option<(Place, Place)> {
    let inside = |place: &&Place| {
        place.path.starts_with(&format!("{root}.")) && place.parent() != root && !place.path.contains('[')
    };
    let names = found.places.iter().filter(inside).filter(|place| {
        names::is_pair_name(place.last_name()) && place.examples.iter().all(Value::is_string)
    });
    let mut pairs = names.filter_map(|name| {
        let beside =
            found.places.iter().filter(|place| place.parent() == name.parent() && place.path != name.path);
        let value = beside
            .filter_map(|place| Some((names::pair_value_rank(place.last_name())?, place)))
            .min_by_key(|(rank, _)| *rank);
        Some((name.clone(), value?.1.clone()))
    });
    pairs.next().filter(|_| pairs.next().is_none())
}
