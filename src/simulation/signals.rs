//! What each device type measures and how its values move: a daily cycle, autocorrelated noise (AR(1)), a slow
//! drift, and light and motion that follow the hour. The numbers are typical of buildings and yards: they
//! look plausible and give analytics something to find, but do not model physics.

use std::f32::consts::TAU;

/// Maximum number of signals of a device type, without motion.
pub const MAX_SIGNALS: usize = 6;

const MINUTES: usize = 24 * 60;
const MILLIS_PER_DAY: i64 = 24 * 3_600_000;

/// Where a signal's value goes in a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Temperature,
    Humidity,
    Pressure,
    LightLevel,
    GasConcentration,
    Other(&'static str),
}

impl Field {
    /// The name in a message.
    pub fn name(self) -> &'static str {
        match self {
            Field::Temperature => "temperature",
            Field::Humidity => "humidity",
            Field::Pressure => "pressure",
            Field::LightLevel => "light_level",
            Field::GasConcentration => "gas_concentration",
            Field::Other(name) => name,
        }
    }
}

/// How a signal follows the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A sine with its peak at this hour (UTC, shifted a little per sensor).
    Daily { peak: u16 },
    /// 0 at night, `base` at noon.
    Daylight,
    /// A tenth of `base` outside working hours.
    Working,
    /// Falls a little each day and restarts with a new battery.
    Battery,
}

/// One measured quantity of a device type, in the unit of the wire format.
#[derive(Debug, Clone, Copy)]
pub struct Signal {
    pub field: Field,
    shape: Shape,
    base: f32,
    /// Standard deviation of the base from sensor to sensor.
    spread: f32,
    /// Amplitude of the daily cycle.
    daily: f32,
    /// Standard deviation of the noise as a whole, and how much of it the next reading keeps.
    noise: f32,
    keep: f32,
    /// Standard deviation of the drift per day, from sensor to sensor.
    drift: f32,
    bounds: (f32, f32),
    /// How far an injected extreme lies from the ordinary value; 0 for signals that get none.
    pub extreme: f32,
    /// 100 for two decimals.
    scale: f32,
}

/// What a kind of device measures.
#[derive(Debug)]
pub struct DeviceType {
    pub name: &'static str,
    pub signals: &'static [Signal],
    pub detects_motion: bool,
}

const TEMPERATURE: Signal = Signal {
    field: Field::Temperature,
    shape: Shape::Daily { peak: 15 },
    base: 21.0,
    spread: 1.0,
    daily: 1.8,
    noise: 0.35,
    keep: 0.95,
    drift: 0.01,
    bounds: (-60.0, 120.0),
    extreme: 25.0,
    scale: 100.0,
};
const HUMIDITY: Signal = Signal {
    field: Field::Humidity,
    shape: Shape::Daily { peak: 4 },
    base: 46.0,
    spread: 4.0,
    daily: 5.0,
    noise: 1.2,
    keep: 0.97,
    drift: 0.03,
    bounds: (0.0, 100.0),
    extreme: 40.0,
    scale: 10.0,
};
const PRESSURE: Signal = Signal {
    field: Field::Pressure,
    shape: Shape::Daily { peak: 10 },
    base: 1013.0,
    spread: 1.5,
    daily: 0.8,
    noise: 4.0,
    keep: 0.999,
    drift: 0.02,
    bounds: (850.0, 1100.0),
    extreme: 60.0,
    scale: 100.0,
};
const LIGHT: Signal = Signal {
    field: Field::LightLevel,
    shape: Shape::Working,
    base: 420.0,
    spread: 60.0,
    daily: 0.0,
    noise: 15.0,
    keep: 0.8,
    drift: 0.0,
    bounds: (0.0, 130_000.0),
    extreme: 3000.0,
    scale: 10.0,
};
const GAS: Signal = Signal {
    field: Field::GasConcentration,
    shape: Shape::Working,
    base: 9.0,
    spread: 1.5,
    daily: 0.0,
    noise: 0.6,
    keep: 0.9,
    drift: 0.02,
    bounds: (0.0, 10_000.0),
    extreme: 180.0,
    scale: 1000.0,
};
const BATTERY: Signal = Signal {
    field: Field::Other("battery_voltage"),
    shape: Shape::Battery,
    base: 3.25,
    spread: 0.03,
    daily: 0.6,
    noise: 0.004,
    keep: 0.5,
    drift: 0.0,
    bounds: (0.0, 5.0),
    extreme: 0.0,
    scale: 1000.0,
};

/// The device types of the simulated fleet.
pub const DEVICE_TYPES: &[DeviceType] = &[
    DeviceType {
        name: "thermostat",
        signals: &[
            TEMPERATURE,
            HUMIDITY,
            Signal {
                field: Field::Other("setpoint"),
                shape: Shape::Working,
                base: 21.5,
                spread: 0.5,
                noise: 0.0,
                drift: 0.0,
                extreme: 0.0,
                scale: 2.0,
                bounds: (16.0, 26.0),
                ..TEMPERATURE
            },
        ],
        detects_motion: false,
    },
    DeviceType {
        name: "hygrometer",
        signals: &[HUMIDITY, Signal { base: 19.0, daily: 1.0, ..TEMPERATURE }, BATTERY],
        detects_motion: false,
    },
    DeviceType { name: "motion-detector", signals: &[LIGHT, BATTERY], detects_motion: true },
    DeviceType {
        name: "air-quality",
        signals: &[
            Signal { base: 22.0, daily: 1.2, ..TEMPERATURE },
            GAS,
            Signal {
                field: Field::Other("co2_ppm"),
                base: 780.0,
                spread: 90.0,
                noise: 35.0,
                bounds: (400.0, 20_000.0),
                extreme: 3000.0,
                scale: 1.0,
                ..GAS
            },
            Signal {
                field: Field::Other("pm2_5"),
                base: 14.0,
                spread: 4.0,
                noise: 2.0,
                bounds: (0.0, 1000.0),
                extreme: 150.0,
                scale: 10.0,
                ..GAS
            },
        ],
        detects_motion: false,
    },
    DeviceType {
        name: "weather-station",
        signals: &[
            Signal { base: 11.0, spread: 0.8, daily: 6.5, noise: 1.2, keep: 0.98, ..TEMPERATURE },
            Signal { base: 68.0, daily: 14.0, noise: 4.0, ..HUMIDITY },
            PRESSURE,
            Signal {
                shape: Shape::Daylight,
                base: 48_000.0,
                spread: 3000.0,
                noise: 6000.0,
                keep: 0.98,
                extreme: 70_000.0,
                scale: 1.0,
                ..LIGHT
            },
            Signal {
                field: Field::Other("wind_speed"),
                shape: Shape::Daily { peak: 14 },
                base: 4.0,
                spread: 0.6,
                daily: 1.5,
                noise: 1.4,
                keep: 0.9,
                drift: 0.0,
                bounds: (0.0, 90.0),
                extreme: 28.0,
                scale: 10.0,
            },
        ],
        detects_motion: false,
    },
];

/// The device type called `name`.
pub fn device_type(name: &str) -> Option<&'static DeviceType> {
    DEVICE_TYPES.iter().find(|device| device.name == name)
}

/// What of a moment the signals need; worked out once a minute, not once a reading.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    minute: i64,
    of_day: usize,
    /// Days of drift so far, swinging slowly between -30 and 30 so that nothing drifts for ever.
    drift_days: f32,
    /// How far a battery is discharged, 0 to 1, over 240 days.
    discharged: f32,
}

impl Moment {
    pub fn at(millis: i64) -> Self {
        let of_day = millis.rem_euclid(MILLIS_PER_DAY) / 60_000;
        let days = millis as f64 / MILLIS_PER_DAY as f64;
        Self {
            minute: millis.div_euclid(60_000),
            of_day: usize::try_from(of_day).unwrap_or(0),
            drift_days: 30.0 * (days / 30.0).sin() as f32,
            discharged: (days.rem_euclid(240.0) / 240.0) as f32,
        }
    }

    /// Moves to `millis`; cheap within the same minute.
    pub fn move_to(&mut self, millis: i64) {
        if millis.div_euclid(60_000) != self.minute {
            *self = Self::at(millis);
        }
    }
}

/// The day's curves by minute, shared by the whole fleet.
#[derive(Debug)]
pub struct Curves {
    cosine: Vec<f32>,
    daylight: Vec<f32>,
    working: Vec<f32>,
}

impl Curves {
    pub fn new() -> Self {
        let hours = || (0..MINUTES).map(|minute| minute as f32 / 60.0);
        // Working hours from 7 to 18, with slopes of an hour on both sides.
        let working = |hour: f32| ((hour - 6.5).min(18.5 - hour)).clamp(0.0, 1.0);
        Self {
            cosine: hours().map(|hour| (hour / 24.0 * TAU).cos()).collect(),
            daylight: hours().map(|hour| ((hour - 6.0) / 12.0 * TAU / 2.0).sin().max(0.0)).collect(),
            working: hours().map(working).collect(),
        }
    }

    /// How likely a motion detector sees somebody.
    pub fn motion_probability(&self, moment: &Moment, shift: u16) -> f32 {
        0.015 + 0.55 * self.working[(moment.of_day + usize::from(shift)) % MINUTES]
    }
}

impl Default for Curves {
    fn default() -> Self {
        Self::new()
    }
}

/// One signal of one sensor: what tells it from its like, and its noise so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    base: f32,
    drift: f32,
    noise: f32,
}

impl State {
    /// `normal` gives standard normal numbers.
    pub fn new(signal: &Signal, mut normal: impl FnMut() -> f32) -> Self {
        Self {
            base: signal.base + signal.spread * normal(),
            drift: signal.drift * normal(),
            noise: signal.noise * normal(),
        }
    }

    /// The next value. `normal` is a fresh standard normal number, `shift` the sensor's own minutes of shift.
    pub fn next(
        &mut self,
        signal: &Signal,
        curves: &Curves,
        moment: &Moment,
        shift: u16,
        normal: f32,
    ) -> f32 {
        // AR(1) with a stationary deviation of `noise`: x' = a x + sqrt(1 - a²) σ ε.
        let fresh = (1.0 - signal.keep * signal.keep).sqrt() * signal.noise;
        self.noise = signal.keep * self.noise + fresh * normal;
        let minute = (moment.of_day + usize::from(shift)) % MINUTES;
        let value = match signal.shape {
            Shape::Daily { peak } => {
                let minute = (minute + MINUTES - usize::from(peak) * 60) % MINUTES;
                self.base + signal.daily * curves.cosine[minute] + self.noise
            }
            Shape::Daylight => (self.base + self.noise) * curves.daylight[minute],
            Shape::Working => (self.base + self.noise) * (0.1 + 0.9 * curves.working[minute]),
            Shape::Battery => self.base - signal.daily * moment.discharged + self.noise,
        };
        signal.finish(value + self.drift * moment.drift_days)
    }
}

impl Signal {
    /// Within what the device can say, with its decimals.
    pub fn finish(&self, value: f32) -> f32 {
        (value.clamp(self.bounds.0, self.bounds.1) * self.scale).round() / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 12 * 3_600_000;

    fn mean_at(device: &str, field: Field, millis: i64) -> f32 {
        let curves = Curves::new();
        let signal = device_type(device).unwrap().signals.iter().find(|it| it.field == field).unwrap();
        let mut state = State::new(signal, || 0.0);
        state.next(signal, &curves, &Moment::at(millis), 0, 0.0)
    }

    #[test]
    fn light_and_motion_follow_the_hour() {
        assert_eq!(mean_at("weather-station", Field::LightLevel, 0), 0.0);
        assert!(mean_at("weather-station", Field::LightLevel, NOON) > 40_000.0);
        let curves = Curves::new();
        let by_day = curves.motion_probability(&Moment::at(NOON), 0);
        assert!(by_day > 10.0 * curves.motion_probability(&Moment::at(0), 0));
    }

    #[test]
    fn temperature_peaks_in_the_afternoon() {
        let at = |hour: i64| mean_at("weather-station", Field::Temperature, hour * 3_600_000);
        let warmest = (0..24).max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap();
        assert_eq!(warmest, 15);
        assert!(at(15) - at(3) > 10.0);
    }

    #[test]
    fn noise_is_autocorrelated_and_keeps_its_deviation() {
        use rand::SeedableRng;
        use rand_distr::{Distribution, StandardNormal};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let (curves, moment) = (Curves::new(), Moment::at(NOON));
        let mut state = State::new(&TEMPERATURE, || 0.0);
        let values: Vec<f32> = (0..200_000)
            .map(|_| {
                let normal = StandardNormal.sample(&mut rng);
                state.next(&TEMPERATURE, &curves, &moment, 0, normal)
            })
            .collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let covariance = |lag: usize| {
            values.iter().zip(&values[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f32>()
                / (values.len() - lag) as f32
        };
        assert!((covariance(0).sqrt() - TEMPERATURE.noise).abs() < 0.03, "{}", covariance(0).sqrt());
        assert!((covariance(1) / covariance(0) - TEMPERATURE.keep).abs() < 0.02);
    }

    #[test]
    fn no_device_type_has_more_signals_than_a_sensor_holds() {
        assert!(DEVICE_TYPES.iter().all(|device| device.signals.len() <= MAX_SIGNALS));
    }
}
