//! Units, and conversions between those of one quantity.

use crate::reading::Metric;

/// (quantity, names, scale, offset): `value * scale + offset` is in the quantity's first unit. Names are compared in any
/// case, unless that would make two units one (mV and MV); UCUM and SenML names are among them.
const UNITS: &[(&str, &[&str], f64, f64)] = &[
    ("temperature", &["celsius", "°C", "C", "Cel", "degC", "deg_C", "℃", "degrees Celsius"], 1.0, 0.0),
    (
        "temperature",
        &["fahrenheit", "°F", "F", "degF", "[degF]", "deg_F", "FAH", "℉", "degrees Fahrenheit"],
        5.0 / 9.0,
        -160.0 / 9.0,
    ),
    ("temperature", &["kelvin", "K", "KEL"], 1.0, -273.15),
    ("ratio", &["percent", "%", "%RH", "pct", "P1"], 1.0, 0.0),
    ("ratio", &["fraction", "/", "1"], 100.0, 0.0),
    ("ratio", &["permille", "‰"], 0.1, 0.0),
    ("pressure", &["hPa", "mbar", "mb", "hectopascal", "millibar", "A97"], 1.0, 0.0),
    ("pressure", &["Pa", "pascal"], 0.01, 0.0),
    ("pressure", &["kPa", "kilopascal"], 10.0, 0.0),
    ("pressure", &["MPa"], 10_000.0, 0.0),
    ("pressure", &["bar"], 1000.0, 0.0),
    ("pressure", &["psi"], 68.947_572_931_683_61, 0.0),
    // Of mercury at 0 °C: 25.4 mmHg. A Torr is 1/760 atm, which is another number.
    ("pressure", &["inHg", "\"Hg", "[in_i'Hg]"], 33.863_886_403_41, 0.0),
    ("pressure", &["mmHg", "mm[Hg]"], 1.333_223_874_15, 0.0),
    ("pressure", &["Torr"], 1_013.25 / 760.0, 0.0),
    ("pressure", &["atm"], 1_013.25, 0.0),
    ("pressure", &["mmH2O"], 0.098_066_5, 0.0),
    ("pressure", &["cmH2O"], 0.980_665, 0.0),
    ("pressure", &["inH2O"], 2.490_889_1, 0.0),
    ("illuminance", &["lux", "lx"], 1.0, 0.0),
    ("illuminance", &["klux", "klx"], 1000.0, 0.0),
    ("illuminance", &["fc", "footcandles"], 10.763_910_416_709_72, 0.0),
    ("concentration", &["ppm", "µmol/mol"], 1.0, 0.0),
    ("concentration", &["ppb", "nmol/mol"], 0.001, 0.0),
    ("density", &["µg/m3", "µg/m³", "ug/m3"], 1.0, 0.0),
    ("density", &["mg/m3", "mg/m³"], 1000.0, 0.0),
    ("density", &["g/m3", "g/m³"], 1e6, 0.0),
    ("irradiance", &["W/m2", "W/m²"], 1.0, 0.0),
    ("irradiance", &["kW/m2", "kW/m²"], 1000.0, 0.0),
    ("voltage", &["V", "volt"], 1.0, 0.0),
    ("voltage", &["mV"], 0.001, 0.0),
    ("voltage", &["kV"], 1000.0, 0.0),
    ("voltage", &["uV", "µV"], 1e-6, 0.0),
    ("current", &["A", "ampere"], 1.0, 0.0),
    ("current", &["mA"], 0.001, 0.0),
    ("current", &["uA", "µA"], 1e-6, 0.0),
    ("charge", &["Ah"], 1.0, 0.0),
    ("charge", &["mAh"], 0.001, 0.0),
    ("resistance", &["ohm", "Ω"], 1.0, 0.0),
    ("resistance", &["mohm", "mΩ"], 0.001, 0.0),
    ("resistance", &["kohm", "kΩ"], 1000.0, 0.0),
    ("resistance", &["Mohm", "MΩ"], 1e6, 0.0),
    ("power", &["W", "watt"], 1.0, 0.0),
    ("power", &["mW"], 0.001, 0.0),
    ("power", &["kW"], 1000.0, 0.0),
    ("power", &["MW"], 1e6, 0.0),
    ("power", &["GW"], 1e9, 0.0),
    ("power", &["hp"], 745.699_871_582_270_2, 0.0),
    ("apparent power", &["VA"], 1.0, 0.0),
    ("apparent power", &["kVA"], 1000.0, 0.0),
    ("apparent power", &["MVA"], 1e6, 0.0),
    ("reactive power", &["var"], 1.0, 0.0),
    ("reactive power", &["kvar"], 1000.0, 0.0),
    ("energy", &["Wh"], 1.0, 0.0),
    ("energy", &["kWh"], 1000.0, 0.0),
    ("energy", &["MWh"], 1e6, 0.0),
    ("energy", &["GWh"], 1e9, 0.0),
    ("energy", &["J", "Ws"], 1.0 / 3600.0, 0.0),
    ("energy", &["kJ"], 1.0 / 3.6, 0.0),
    ("energy", &["MJ"], 1e6 / 3600.0, 0.0),
    ("energy", &["GJ"], 1e9 / 3600.0, 0.0),
    ("frequency", &["Hz"], 1.0, 0.0),
    ("frequency", &["kHz"], 1000.0, 0.0),
    ("frequency", &["MHz"], 1e6, 0.0),
    ("frequency", &["GHz"], 1e9, 0.0),
    ("frequency", &["rpm", "1/min"], 1.0 / 60.0, 0.0),
    ("length", &["m"], 1.0, 0.0),
    ("length", &["cm"], 0.01, 0.0),
    ("length", &["mm"], 0.001, 0.0),
    ("length", &["km"], 1000.0, 0.0),
    ("length", &["um", "µm"], 1e-6, 0.0),
    ("length", &["mi"], 1_609.344, 0.0),
    ("length", &["yd"], 0.9144, 0.0),
    ("length", &["ft"], 0.3048, 0.0),
    ("length", &["in"], 0.0254, 0.0),
    ("time", &["s"], 1.0, 0.0),
    ("time", &["ms"], 0.001, 0.0),
    ("time", &["us", "µs"], 1e-6, 0.0),
    ("time", &["min"], 60.0, 0.0),
    ("time", &["h"], 3600.0, 0.0),
    ("time", &["d"], 86_400.0, 0.0),
    ("speed", &["m/s"], 1.0, 0.0),
    ("speed", &["km/h", "kph"], 1.0 / 3.6, 0.0),
    ("speed", &["mph"], 0.44704, 0.0),
    ("speed", &["ft/s"], 0.3048, 0.0),
    ("speed", &["kn", "knots", "kt"], 1852.0 / 3600.0, 0.0),
    ("acceleration", &["m/s2", "m/s²"], 1.0, 0.0),
    ("angle", &["deg", "°"], 1.0, 0.0),
    ("angle", &["rad"], 180.0 / std::f64::consts::PI, 0.0),
    ("mass", &["kg"], 1.0, 0.0),
    ("mass", &["g"], 0.001, 0.0),
    ("mass", &["mg"], 1e-6, 0.0),
    ("mass", &["t"], 1000.0, 0.0),
    ("mass", &["lb"], 0.453_592_37, 0.0),
    ("mass", &["oz"], 0.028_349_523_125, 0.0),
    ("volume", &["l"], 1.0, 0.0),
    ("volume", &["ml", "mL"], 0.001, 0.0),
    ("volume", &["m3", "m³"], 1000.0, 0.0),
    ("volume", &["gal"], 3.785_411_784, 0.0),
    ("volume", &["ft3", "ft³"], 28.316_846_592, 0.0),
    ("flow", &["l/min"], 1.0, 0.0),
    ("flow", &["l/s"], 60.0, 0.0),
    ("flow", &["l/h"], 1.0 / 60.0, 0.0),
    ("flow", &["m3/h", "m³/h"], 1000.0 / 60.0, 0.0),
    ("flow", &["m3/s", "m³/s"], 60_000.0, 0.0),
    ("flow", &["gpm"], 3.785_411_784, 0.0),
];

/// A linear conversion: `value * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    scale: f64,
    offset: f64,
}

type Unit = &'static (&'static str, &'static [&'static str], f64, f64);

fn unit(name: &str) -> Option<Unit> {
    spelled(name).or_else(|| spelled(&plain(name)).filter(|_| !name.is_empty()))
}

fn spelled(name: &str) -> Option<Unit> {
    let exact = UNITS.iter().find(|(_, names, ..)| names.contains(&name));
    exact.or_else(|| {
        let mut alike =
            UNITS.iter().filter(|(_, names, ..)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        alike.next().filter(|_| alike.next().is_none())
    })
}

/// A name without the blanks in it and the vocabulary before it (`unit:DEG_C`, `wmoUnit:degC`), and with the usual one of
/// characters that look the same.
fn plain(name: &str) -> String {
    let name = name.rsplit_once(':').map_or(name, |(_, name)| name);
    let alike = |char| match char {
        'º' | '˚' => '°',
        // The Greek letter, and the ohm sign.
        'μ' => 'µ',
        '\u{2126}' => 'Ω',
        other => other,
    };
    name.chars().filter(|char| !char.is_whitespace()).map(alike).collect()
}

impl Conversion {
    /// # Errors
    /// What is wrong, with the units that are known.
    pub fn between(from: &str, to: &str) -> Result<Self, String> {
        let known =
            |name: &str| unit(name).ok_or_else(|| format!("unit {name:?} is not known ({})", known(None)));
        let (from_unit, to_unit) = (known(from)?, known(to)?);
        if from_unit.0 != to_unit.0 {
            return Err(format!("{from:?} is a unit of {}, and {to:?} one of {}", from_unit.0, to_unit.0));
        }
        Ok(Self { scale: from_unit.2 / to_unit.2, offset: (from_unit.3 - to_unit.3) / to_unit.2 })
    }

    /// From `unit` to the unit of the column that `metric` names. `None` for metrics without a column, which have no unit.
    ///
    /// # Errors
    /// What is wrong, with the units of the column.
    pub fn to_column(metric: &str, unit: &str) -> Result<Option<Self>, String> {
        let Some(column) = Metric::named(metric).unit() else { return Ok(None) };
        match Self::between(unit, column) {
            Ok(conversion) => Ok(Some(conversion)),
            Err(_) => Err(format!("{unit:?} is no unit of {metric} ({})", known(Some(column)))),
        }
    }

    /// `value * scale + offset`, and then this conversion.
    #[must_use]
    pub fn after(self, scale: f64, offset: f64) -> Self {
        Self { scale: self.scale * scale, offset: self.scale * offset + self.offset }
    }

    /// The conversion that changes nothing.
    pub const NONE: Self = Self { scale: 1.0, offset: 0.0 };

    pub fn convert(self, value: f64) -> f64 {
        if self == Self::NONE {
            return value;
        }
        // 15 digits are what a float has of a decimal: 3300 mV are 3.3 V and not 3.3000000000000003.
        let scaled = value * self.scale;
        let sum = scaled + self.offset;
        match MOST_PLACES.checked_sub(lost_digits(scaled.abs().max(self.offset.abs()), sum)) {
            Some(places) => rounded(sum, places),
            None => 0.0,
        }
    }
}

/// How many digits a sum has less than the larger of what was added: 273.15 K are 32 °F and not 31.9999999999999.
fn lost_digits(larger: f64, sum: f64) -> usize {
    // As a rule none is lost, and a logarithm costs more than the sum.
    if sum.abs() * 2.0 >= larger || sum == 0.0 || !larger.is_finite() {
        return 0;
    }
    (larger.log10().floor() - sum.abs().log10().floor()).max(0.0) as usize
}

/// Digits after the first of 15.
const MOST_PLACES: usize = 14;

/// The nearest number with so many significant digits after the first.
fn rounded(value: f64, places: usize) -> f64 {
    rounded_by_power(value, places).unwrap_or_else(|| format!("{value:.places$e}").parse().unwrap_or(value))
}

/// [`rounded`] without text, which takes 17 times the instructions. `None` where it might be another number: where the digits are not a
/// whole number that a float holds, the power of ten is not exact, or the value is as near to two numbers as the error of a product.
fn rounded_by_power(value: f64, places: usize) -> Option<f64> {
    const UNSURE: std::ops::RangeInclusive<f64> = 0.4..=0.6;
    if value == 0.0 {
        return Some(value);
    }
    let exponent = value.abs().log10().floor();
    let power = POWERS.get(usize::try_from((places as i32).checked_sub(exponent as i32)?).ok()?)?;
    let digits = value * power;
    let is_sure = (POWERS[places]..=POWERS[places + 1]).contains(&digits.abs())
        && !UNSURE.contains(&digits.abs().fract());
    is_sure.then(|| digits.round() / power)
}

/// All powers of ten that a float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The units that are known: those of a unit's quantity, or all.
fn known(of: Option<&str>) -> String {
    let quantity = of.and_then(unit).map(|unit| unit.0);
    let names =
        UNITS.iter().filter(|unit| quantity.is_none_or(|wanted| unit.0 == wanted)).map(|unit| unit.1[0]);
    format!("known: {}", names.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of any magnitude, and decimals with what a conversion leaves in their last digits.
    fn values() -> impl Strategy<Value = f64> {
        let decimals =
            (-10_000_000_i64..10_000_000, 0_u32..8, -3_i64..4).prop_map(|(digits, places, ulps)| {
                let decimal = digits as f64 / f64::from(10_u32.pow(places));
                f64::from_bits(decimal.to_bits().wrapping_add_signed(ulps))
            });
        prop_oneof![any::<f64>(), -1e6_f64..1e6, decimals]
    }

    #[test]
    fn digits_that_a_sum_does_not_have_are_not_made_up() {
        for (from, to, value, expected) in [
            ("K", "°F", 273.15, 32.0),
            ("°C", "°F", -17.77, 0.014),
            ("°F", "°C", 32.0, 0.0),
            ("°F", "°C", 32.1, 0.055_555_555_555_6),
            ("°C", "K", -273.15, 0.0),
            ("°C", "°F", -40.0, -40.0),
        ] {
            assert_eq!(Conversion::between(from, to).unwrap().convert(value), expected, "{value} {from}");
        }
    }

    #[test]
    fn a_unit_is_known_in_its_common_spellings() {
        for (one, other) in [
            ("° F", "°F"),
            ("deg C", "°C"),
            ("ºC", "°C"),
            ("˚C", "°C"),
            ("unit:DEG_C", "°C"),
            ("wmoUnit:degC", "°C"),
            ("% RH", "%"),
            ("in Hg", "inHg"),
            ("\u{3bc}g/m³", "µg/m³"),
            ("k\u{2126}", "kΩ"),
            ("millibar", "hPa"),
        ] {
            assert_eq!(Conversion::between(one, other), Ok(Conversion::NONE), "{one}");
        }
        assert!(Conversion::between("", "°C").is_err() && Conversion::between("x:", "%").is_err());
    }

    /// Each name is that of one unit, also in any case unless that would be two units.
    #[test]
    fn no_name_is_given_twice() {
        let names: Vec<&str> = UNITS.iter().flat_map(|unit| unit.1).copied().collect();
        let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len());
    }

    proptest! {
        #[test]
        fn a_number_is_rounded_as_its_text_is(value in values(), places in 0_usize..=MOST_PLACES) {
            let by_text: f64 = format!("{value:.places$e}").parse().unwrap();
            prop_assert_eq!(rounded(value, places).to_bits(), by_text.to_bits());
        }
    }

    #[test]
    fn most_numbers_are_rounded_without_text() {
        for value in
            [21.5, 3.300_000_000_000_000_3, -40.0, 1_013.25, 1000.0, 1e-5, 0.1 + 0.2, 123_456_789.123]
        {
            assert!(rounded_by_power(value, MOST_PLACES).is_some(), "{value}");
        }
        for value in [1e300, f64::INFINITY, 1e-300] {
            assert_eq!(rounded_by_power(value, MOST_PLACES), None, "{value}");
        }
        assert_eq!(rounded(9_999_999_999.999_999, MOST_PLACES), 10_000_000_000.0);
    }

    #[test]
    fn each_unit_converts_to_that_of_its_column() {
        for (metric, unit, value, converted) in [
            ("temperature", "°F", 212.0, 100.0),
            ("temperature", "fahrenheit", 32.0, 0.0),
            ("temperature", "K", 296.15, 23.0),
            ("temperature", "Cel", 23.1, 23.1),
            ("temperature", "℉", 212.0, 100.0),
            ("temperature", "FAH", 212.0, 100.0),
            ("temperature", "degrees Fahrenheit", 212.0, 100.0),
            ("temperature", "℃", 23.1, 23.1),
            ("temperature", "DEG_C", 23.1, 23.1),
            ("temperature", "degrees celsius", 23.1, 23.1),
            ("light_level", "fc", 10.0, 107.639_104_167),
            ("humidity", "/", 0.5, 50.0),
            ("pressure", "psi", 14.503_773_773, 1000.0),
            ("pressure", "kpa", 101.325, 1013.25),
            ("pressure", "bar", 1.0, 1000.0),
            ("light_level", "lx", 3.0, 3.0),
            ("gas_concentration", "ppb", 415_000.0, 415.0),
        ] {
            let conversion = Conversion::to_column(metric, unit).unwrap().unwrap();
            let difference = (conversion.convert(value) - converted).abs();
            assert!(difference < 1e-6, "{metric} {unit}: {difference}");
        }
        assert_eq!(Conversion::to_column("voltage", "mV"), Ok(None));
        assert_eq!(Conversion::between("mV", "V").unwrap().convert(3000.0), 3.0);
        // Tenths of a degree Fahrenheit.
        let tenths = Conversion::to_column("temperature", "°F").unwrap().unwrap().after(0.1, 0.0);
        assert_eq!(tenths.convert(680.0), 20.0);
        assert_eq!(Conversion::NONE.after(0.1, -40.0).convert(653.0), 25.3);
        let exact = Conversion::between("K", "K").unwrap().convert(0.1);
        assert!((exact - 0.1).abs() < f64::EPSILON);
    }

    #[test]
    fn a_wrong_unit_is_refused_with_the_known_ones() {
        let error = Conversion::to_column("temperature", "psi").unwrap_err();
        assert!(error.contains("fahrenheit") && !error.contains("hPa"), "{error}");
        assert!(Conversion::between("V", "A").unwrap_err().contains("voltage"));
        assert!(Conversion::between("furlong", "m").unwrap_err().contains("known: "));
    }
}
