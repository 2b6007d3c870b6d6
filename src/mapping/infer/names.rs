//! What the names of fields tell: which is the sensor, the location, the device type, the time, a column.

use crate::mapping::units::Conversion;

/// The most telling names first; compared without case and punctuation.
const SENSORS: &[&str] = &[
    "sensorid",
    "sensor",
    "deveui",
    "deviceid",
    "device",
    "devicename",
    "eui",
    "mac",
    "macaddress",
    "serial",
    "serialnumber",
    "nodeid",
    "node",
    "host",
    "hostname",
    "instance",
    "uuid",
    "id",
    "name",
];
const LOCATIONS: &[&str] = &[
    "location",
    "site",
    "room",
    "plant",
    "building",
    "place",
    "area",
    "hall",
    "floor",
    "applicationid",
    "applicationname",
    "application",
    "region",
];
const TYPES: &[&str] =
    &["devicetype", "sensortype", "type", "model", "kind", "profile", "class", "measurement"];
const TIMES: &[&str] = &[
    "recordedtimestamp",
    "timestamp",
    "time",
    "ts",
    "datetime",
    "receivedat",
    "lastseen",
    "measuredat",
    "eventtime",
    "createdat",
    "date",
    "at",
    "t",
];
const PAIR_NAMES: &[&str] =
    &["name", "metric", "n", "measure", "field", "parameter", "property", "key", "type"];
const PAIR_VALUES: &[&str] = &["value", "v", "val", "result"];
const UNITS: &[&str] = &["unit", "units", "uom", "u", "unitofmeasure", "unitofmeasurement"];

/// Words for things that measure, and for what identifies one.
const THINGS: &[&str] = &[
    "device",
    "dev",
    "sensor",
    "node",
    "asset",
    "thing",
    "station",
    "meter",
    "machine",
    "equipment",
    "probe",
    "plc",
    "inverter",
    "tracker",
    "pump",
    "client",
    "host",
    "writer",
];
const IDENTIFIERS: &[&str] = &[
    "id", "eui", "mac", "serial", "uid", "uuid", "name", "number", "address", "addr", "key", "code", "index",
];
const PLACES: &[&str] = &[
    "location", "site", "room", "plant", "building", "area", "hall", "zone", "region", "facility", "floor",
    "factory", "city",
];
const KINDS: &[&str] = &["model", "profile", "product", "class", "kind"];
const MOMENTS: &[&str] = &[
    "time",
    "timestamp",
    "ts",
    "date",
    "datetime",
    "at",
    "when",
    "moment",
    "instant",
    "epoch",
    "origin",
    "seen",
    "recorded",
    "measured",
    "sampled",
    "observed",
];
/// Moments of those who passed a message on, which are later than the measurement.
const LATER: &[&str] = &[
    "received",
    "receive",
    "created",
    "enqueued",
    "published",
    "processed",
    "updated",
    "inserted",
    "stored",
    "result",
];

/// Rank from which on a name is little more than possible.
pub(super) const FAINT: usize = 60;

pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
}

/// The words of a name: `devEUI`, `dev_eui` and `dev-eui` have two.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for char in name.chars() {
        if char.is_alphanumeric() {
            let begins = !before.is_alphanumeric() || (char.is_uppercase() && before.is_lowercase());
            match words.last_mut().filter(|_| !begins) {
                Some(word) => word.extend(char.to_lowercase()),
                None => words.push(char.to_lowercase().collect()),
            }
        }
        before = char;
    }
    words
}

fn position(list: &[&str], name: &str) -> Option<usize> {
    let name = plain(name);
    list.iter().position(|known| *known == name)
}

fn has(words: &[String], list: &[&str]) -> bool {
    words.iter().any(|word| list.contains(&word.as_str()))
}

/// The smaller, the more likely.
pub(super) fn sensor_rank(name: &str) -> Option<usize> {
    // Of Prometheus: what is measured.
    if name == "__name__" {
        return None;
    }
    if let Some(rank) = position(SENSORS, name) {
        return Some(rank);
    }
    let words = words(name);
    let is_gateway =
        has(&words, &["gw", "gateway", "application", "tenant", "user", "message", "subscription"]);
    match (has(&words, THINGS), has(&words, IDENTIFIERS)) {
        _ if is_gateway => has(&words, IDENTIFIERS).then_some(FAINT + 10),
        // More telling than a name alone.
        (true, true) => Some(17),
        (true, false) if words.len() == 1 => Some(25),
        // Of CloudEvents.
        _ if words.last().is_some_and(|word| word == "subject") => Some(30),
        (false, true)
            if words.last().is_some_and(|word| ["eui", "mac", "serial"].contains(&word.as_str())) =>
        {
            Some(35)
        }
        _ => None,
    }
}

pub(super) fn location_rank(name: &str) -> Option<usize> {
    position(LOCATIONS, name).or_else(|| has(&words(name), PLACES).then_some(20))
}

pub(super) fn type_rank(name: &str) -> Option<usize> {
    let words = words(name);
    position(TYPES, name).or_else(|| match has(&words, KINDS) {
        true => Some(20),
        false => (has(&words, THINGS) && has(&words, &["type"])).then_some(15),
    })
}

/// `None`: nothing in the name is about time.
pub(super) fn time_rank(name: &str) -> Option<usize> {
    let words = words(name);
    let later = if has(&words, LATER) { 10 } else { 0 };
    position(TIMES, name).or_else(|| {
        let is_about_time = has(&words, MOMENTS) || words.iter().any(|word| word.ends_with("time"));
        is_about_time.then_some(20 + later)
    })
}

pub(super) fn pair_name_rank(name: &str) -> Option<usize> {
    position(PAIR_NAMES, name).or_else(|| match words(name).as_slice() {
        [.., last] if last == "name" => Some(20),
        [first, ..] if ["metric", "parameter", "property", "channel", "tag"].contains(&first.as_str()) => {
            Some(21)
        }
        _ => None,
    })
}

/// Whether a name says that its text is the name of what is measured, wherever it stands.
pub(super) fn is_pair_name(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "metric",
        "metricname",
        "attribute",
        "attributename",
        "measure",
        "measurename",
        "parameter",
        "parametername",
        "property",
        "propertyname",
        "field",
        "fieldname",
        "variable",
        "variablename",
        "observedproperty",
    ];
    position(NAMES, name).is_some()
}

pub(super) fn pair_value_rank(name: &str) -> Option<usize> {
    position(PAIR_VALUES, name)
        .or_else(|| words(name).last().is_some_and(|last| last == "value").then_some(PAIR_VALUES.len()))
}

pub(super) fn is_unit(name: &str) -> bool {
    position(UNITS, name).is_some()
}

/// The words of a name that says that it is a unit, without those: `temp_unit` and `unitOfTemp` are about `temp`. None is left
/// of `unit`.
pub(super) fn about_unit(name: &str) -> Option<Vec<String>> {
    if is_unit(name) {
        return Some(Vec::new());
    }
    let mut words = words(name);
    let before = words.len();
    words.retain(|word| !["unit", "units", "uom"].contains(&word.as_str()));
    (words.len() < before).then(|| {
        words.retain(|word| !["of", "measure", "measurement"].contains(&word.as_str()));
        words
    })
}

/// Arrays with these names describe a message and hold no readings.
pub(super) fn is_detail(name: &str) -> bool {
    let words = words(name);
    has(
        &words,
        &[
            "gateways",
            "rx",
            "hotspots",
            "gws",
            "metadata",
            "tags",
            "dimensions",
            "attributes",
            "errors",
            "links",
            "labels",
        ],
    )
}

/// Whether a text looks like an id: one short word with letters and digits.
pub(super) fn is_identifier(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text.chars().any(char::is_alphabetic)
        && text.chars().any(|char| char.is_ascii_digit())
        && text.chars().all(|char| char.is_alphanumeric() || "-_:.".contains(char))
}

/// A number and the unit behind it, such as `21.5 °C`: the unit is known, or there is none.
pub(super) fn number_with_unit(text: &str) -> Option<(&str, &str)> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = digits.find(|char: char| !char.is_ascii_digit() && char != '.' && char != ',')?;
    let (number, unit) = text.split_at(text.len() - digits.len() + end);
    let unit = unit.trim_start();
    let is_number = number.contains(|char: char| char.is_ascii_digit())
        && !number.ends_with(['.', ','])
        && number.matches(['.', ',']).count() <= 1;
    let is_unit =
        !unit.contains(|char: char| char.is_ascii_digit()) && Conversion::between(unit, unit).is_ok();
    (is_number && is_unit).then_some((number, unit))
}

/// The column of what a nested name ends with: `body.temperature`, `Payload.Temperature.Value`.
pub(super) fn column_at_end(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    let (rest, last) = name.rsplit_once('.')?;
    // `Body` is that of OPC UA.
    match pair_value_rank(last).is_some() || last == "Body" {
        true => column(rest.rsplit('.').next().unwrap_or(rest)),
        false => column(last),
    }
}

/// Texts under these names are no numbers, even where they look like ones: ids, versions and codes.
pub(super) fn is_label(name: &str) -> bool {
    const LABELS: &[&str] = &[
        "version",
        "specversion",
        "fw",
        "firmware",
        "hw",
        "hardware",
        "sw",
        "software",
        "imei",
        "iccid",
        "imsi",
        "serial",
        "eui",
        "mac",
        "addr",
        "address",
        "devaddr",
        "code",
        "batch",
        "lot",
        "subject",
        "phone",
        "zip",
    ];
    has(&words(name), LABELS)
}

/// The column that a name means, and the unit that it states.
pub(super) fn column(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    let mut words = words(name);
    // `kPa` and `inHg` look like two words.
    if let [.., prefix, last] = words.as_mut_slice()
        && [("k", "pa"), ("h", "pa"), ("in", "hg"), ("mm", "hg")].contains(&(prefix.as_str(), last.as_str()))
    {
        prefix.push_str(last);
        words.pop();
    }
    // `tempf` is one word.
    if let Some((before, unit)) = words.last().and_then(|last| last.split_at_checked(4))
        && before == "temp"
        && ["f", "c"].contains(&unit)
    {
        let (before, unit) = (before.to_owned(), unit.to_owned());
        words.pop();
        words.extend([before, unit]);
    }
    if words.len() > 1 && ["current", "ambient", "air"].contains(&words[0].as_str()) {
        words.remove(0);
    }
    let unit = match words.last().map(String::as_str) {
        Some("f" | "fahrenheit" | "degf") => Some("°F"),
        Some("k" | "kelvin") => Some("K"),
        Some("c" | "celsius" | "degc") => Some("°C"),
        Some("pa") => Some("Pa"),
        Some("hpa") => Some("hPa"),
        Some("mbar") => Some("mbar"),
        Some("kpa") => Some("kPa"),
        Some("psi") => Some("psi"),
        Some("inhg") => Some("inHg"),
        Some("mmhg") => Some("mmHg"),
        Some("bar") => Some("bar"),
        Some("lux" | "lx") if words.len() > 1 => Some("lux"),
        Some("percent" | "pct") => Some("%"),
        _ => None,
    };
    if unit.is_some() {
        words.pop();
    }
    let column = match words.concat().as_str() {
        "temperature" | "temp" | "airtemperature" | "ambienttemperature" | "airtemp" | "temperatur"
        | "lufttemperatur" | "température" | "temperatura" => "temperature",
        "humidity" | "hum" | "humd" | "humid" | "rh" | "relativehumidity" | "relhumidity" | "relhum"
        | "feuchte" | "luftfeuchte" | "luftfeuchtigkeit" | "humidité" | "humedad" | "umidità" => "humidity",
        "pressure" | "press" | "airpressure" | "barometricpressure" | "barometer" | "baro" | "druck"
        | "luftdruck" | "pression" | "presión" | "pressione" => "pressure",
        "lux" | "illuminance" | "light" | "lightlevel" | "helligkeit" | "beleuchtungsstärke" => {
            "light_level"
        }
        _ => return None,
    };
    crate::reading::Metric::named(column).unit()?;
    unit.is_none_or(|unit| Conversion::to_column(column, unit).is_ok()).then_some((column, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_they_are_in_any_spelling() {
        assert_eq!(words("devEUI"), ["dev", "eui"]);
        assert_eq!(words("iothub-connection-device-id"), ["iothub", "connection", "device", "id"]);
        for name in [
            "dev_eui",
            "deviceName",
            "assetId",
            "iothub-connection-device-id",
            "ce_subject",
            "station",
            "tracker_serial",
        ] {
            assert!(sensor_rank(name).is_some_and(|rank| rank < FAINT), "{name}");
        }
        assert!(sensor_rank("gw_mac").is_some_and(|rank| rank > FAINT));
        assert_eq!(sensor_rank("temperature"), None);
        assert!(time_rank("phenomenonTime") < time_rank("receivedTime"));
        assert!(time_rank("when").is_some() && time_rank("humidity").is_none());
        assert_eq!(pair_name_rank("resourceName"), Some(20));
        assert!(pair_value_rank("MeasureValue").is_some() && pair_value_rank("valueType").is_none());
        assert!(is_detail("rx_metadata") && !is_detail("readings"));
    }

    #[test]
    fn columns_are_known_by_short_names_and_units() {
        assert_eq!(column("temperature_f"), Some(("temperature", Some("°F"))));
        assert_eq!(column("Temp"), Some(("temperature", None)));
        assert_eq!(column("pressureKPa"), Some(("pressure", Some("kPa"))));
        assert_eq!(column("Druck [hPa]"), Some(("pressure", Some("hPa"))));
        assert_eq!(column("pressure_kpa"), Some(("pressure", Some("kPa"))));
        assert_eq!(column("Press (inHg)"), Some(("pressure", Some("inHg"))));
        assert_eq!(column("pressure_mmhg"), Some(("pressure", Some("mmHg"))));
        assert_eq!(column("tempf"), Some(("temperature", Some("°F"))));
        assert_eq!(column("current_temp_f"), Some(("temperature", Some("°F"))));
        assert_eq!(column("currentHumidity"), Some(("humidity", None)));
        assert_eq!((column("current"), column("temper"), column("tempinf")), (None, None, None));
        assert_eq!(column_at_end("Payload.Temperature.Body"), Some(("temperature", None)));
        assert_eq!(column("temperature_psi"), None);
        assert_eq!(column("soil_temperature"), None);
    }
}
