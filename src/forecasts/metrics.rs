//! What `forecast --metrics-addr` exports: the newest forecast, its errors in the back-test, and its age.

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, Opts, Registry};

use crate::forecasts::{Crossing, Forecast};
use crate::metrics::describe::{Described, describe};

/// Maximum number of steps that become series; of a longer forecast these are spread over the horizon.
const MAX_STEPS: usize = 24;

/// The metrics of one forecast. Constant labels say which.
#[derive(Debug, Clone)]
pub struct ForecastMetrics {
    pub registry: Registry,
    forecast: GaugeVec,
    crossing: GaugeVec,
    error: GaugeVec,
    coverage: GaugeVec,
    made: Gauge,
    pub failures: IntCounter,
}

impl ForecastMetrics {
    /// `labels` say what is forecast: location, device_type, iot_sensor_id, metric.
    pub fn new(labels: &[(&str, &str)]) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| {
            labels.iter().fold(Opts::new(name, help), |opts, (label, value)| opts.const_label(*label, *value))
        };
        let metrics = Self {
            registry: Registry::new(),
            forecast: GaugeVec::new(
                opts(
                    "iotctl_forecast",
                    "Forecast mean over the step that ends ahead_seconds from now, and its interval",
                ),
                &["bound", "ahead_seconds"],
            )?,
            crossing: GaugeVec::new(
                opts(
                    "iotctl_forecast_crossing_seconds",
                    "Time from the forecast until the limit is crossed; absent if that is not within the horizon",
                ),
                &["bound", "direction", "limit"],
            )?,
            error: GaugeVec::new(
                opts(
                    "iotctl_forecast_mean_absolute_error",
                    "Mean absolute error of the model in the back-test",
                ),
                &["model"],
            )?,
            coverage: GaugeVec::new(
                opts(
                    "iotctl_forecast_coverage_ratio",
                    "Share of past values within the intervals of the back-test",
                ),
                &["model"],
            )?,
            made: Gauge::with_opts(opts(
                "iotctl_forecast_timestamp_seconds",
                "Time of the newest forecast, in seconds since the epoch",
            ))?,
            failures: IntCounter::with_opts(opts(
                "iotctl_forecast_failures_total",
                "Failed forecasts; each is retried",
            ))?,
        };
        metrics.collectors().into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// All metrics by name, type, help text and labels.
    pub fn describe(&self) -> Vec<Described> {
        describe(&self.collectors())
    }

    fn collectors(&self) -> [Box<dyn Collector>; 6] {
        [
            Box::new(self.forecast.clone()),
            Box::new(self.crossing.clone()),
            Box::new(self.error.clone()),
            Box::new(self.coverage.clone()),
            Box::new(self.made.clone()),
            Box::new(self.failures.clone()),
        ]
    }

    /// Replaces the exported forecast. `made_at` and `step` in milliseconds; `crossing` with its direction and limit.
    pub fn set(&self, found: &Forecast, made_at: i64, step: i64, crossing: Option<(Crossing, &str, f64)>) {
        for gauges in [&self.forecast, &self.crossing, &self.error, &self.coverage] {
            gauges.reset();
        }
        for index in spread(found.steps.len()) {
            let ahead = ((index as i64 + 1) * step / 1000).to_string();
            let of = found.steps[index];
            for (bound, value) in [("value", of.value), ("low", of.low), ("high", of.high)] {
                self.forecast.with_label_values(&[bound, &ahead]).set(value);
            }
        }
        if let Some((crossing, direction, limit)) = crossing {
            let limit = limit.to_string();
            let bounds =
                [("likely", crossing.likely), ("earliest", crossing.earliest), ("latest", crossing.latest)];
            for (bound, at) in bounds {
                if let Some(at) = at {
                    let seconds = (at - made_at).max(0) as f64 / 1000.0;
                    self.crossing.with_label_values(&[bound, direction, &limit]).set(seconds);
                }
            }
        }
        for test in &found.backtests {
            self.error.with_label_values(&[test.model.name()]).set(test.mean_absolute_error);
            self.coverage.with_label_values(&[test.model.name()]).set(test.coverage);
        }
        self.made.set(made_at as f64 / 1000.0);
    }
}

/// At most [`MAX_STEPS`] of `length` indexes, the first and the last included.
fn spread(length: usize) -> impl Iterator<Item = usize> {
    let count = length.min(MAX_STEPS);
    (0..count).map(move |index| index * (length - 1) / (count - 1).max(1))
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::forecasts::{Model, Step};

    fn forecast(steps: i64) -> Forecast {
        let step = |index: i64| Step { at: index * 60_000, value: index as f64, low: -1.0, high: 99.0 };
        Forecast {
            model: Model::Ets,
            steps: (0..steps).map(step).collect(),
            backtests: Vec::new(),
            left_out: Vec::new(),
            filled: 0,
        }
    }

    #[test]
    fn a_forecast_replaces_the_one_before() {
        let metrics = ForecastMetrics::new(&[("location", "plant-1"), ("metric", "temperature")]).unwrap();
        let crossing = Crossing { likely: Some(120_000), earliest: Some(0), latest: None };
        metrics.set(&forecast(3), 60_000, 60_000, Some((crossing, "above", 1.5)));
        let text = || TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        let labels = "location=\"plant-1\",metric=\"temperature\"";
        for line in [
            format!("iotctl_forecast{{ahead_seconds=\"180\",bound=\"value\",{labels}}} 2"),
            format!("iotctl_forecast{{ahead_seconds=\"60\",bound=\"high\",{labels}}} 99"),
            format!(
                "iotctl_forecast_crossing_seconds{{bound=\"likely\",direction=\"above\",limit=\"1.5\",{labels}}} 60"
            ),
            format!("iotctl_forecast_timestamp_seconds{{{labels}}} 60"),
        ] {
            assert!(text().contains(&line), "{line} is not in\n{}", text());
        }
        assert!(!text().contains("bound=\"latest\""), "{}", text());
        metrics.set(&forecast(1), 0, 60_000, None);
        assert!(!text().contains("180") && !text().contains("crossing_seconds{"), "{}", text());
    }

    #[test]
    fn a_long_forecast_is_thinned_out_from_end_to_end() {
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(1).collect::<Vec<_>>(), [0]);
        assert_eq!(spread(0).count(), 0);
        let long: Vec<_> = spread(1_000).collect();
        assert_eq!((long.len(), long[0], long[23]), (24, 0, 999));
    }
}
