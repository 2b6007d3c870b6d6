//! Forecasts over stored readings, and scores of detectors against what is known.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::support::{Lab, eventually, message, scrape};

crate::trials!(
    a_known_season_is_continued_and_stored,
    what_cannot_be_forecast_says_what_it_takes,
    a_forecast_is_exported_and_made_anew,
    anomalies_are_scored_against_labels,
    forecasts_of_a_file_are_scored_without_a_server,
);

/// 2026-10-01T00:00:00Z.
const START: i64 = 1_790_812_800_000;
const HOUR: i64 = 3_600_000;

/// A daily cycle around a rising line, with a little noise that is the same in each run.
fn value(hour: i64) -> f64 {
    let noise = ((hour * 7_919) % 101) as f64 / 101.0 - 0.5;
    20.0 + 0.02 * hour as f64 + 5.0 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin() + noise
}

/// Readings twice an hour of two sensors that lie 1 °C above and below the value.
fn stocked(name: &str, hours: i64) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let readings = (0..hours).flat_map(|hour| {
        [(1, 1.0, 5), (2, -1.0, 35)].into_iter().flat_map(move |(sensor, offset, minute)| {
            [0, 10].map(move |later| {
                let temperature = format!(r#","temperature":{}"#, value(hour) + offset);
                message("plant-1", sensor, START + hour * HOUR + (minute + later) * 60_000, &temperature)
            })
        })
    });
    lab.send(readings)?;
    lab.ingest()?;
    Ok(lab)
}

const FORECAST: [&str; 8] = [
    "forecast",
    "--metric",
    "temperature",
    "--location",
    "plant-1",
    "--device-type",
    "thermostat",
    "--at=2026-10-15",
];

fn a_known_season_is_continued_and_stored() -> anyhow::Result<()> {
    let lab = stocked("forecast", 15 * 24)?;
    let ask = ["--horizon", "24h", "--level", "0.9", "--above", "28", "--format", "json", "--store"];
    let found: Value = serde_json::from_str(&lab.ok(&[&["-q"], &FORECAST[..], &ask[..]].concat())?)?;
    let steps = found["steps"].as_array().context("no steps")?;
    ensure!(steps.len() == 24 && steps[0]["at"] == "2026-10-15T00:00:00.000Z", "{found:#}");
    // Steps of another zone are counted from its midnight.
    let ask = ["--step", "12h", "--season", "24h", "--time-zone", "Asia/Kolkata", "--format", "json"];
    let half_days: Value = serde_json::from_str(&lab.ok(&[&["-q"], &FORECAST[..], &ask[..]].concat())?)?;
    ensure!(half_days["steps"][0]["at"] == "2026-10-15T00:00:00.000+05:30", "{half_days:#}");
    let mut held = 0;
    for (hour, step) in (14 * 24..).zip(steps) {
        let number = |key: &str| step[key].as_f64().with_context(|| format!("{key} in {step}"));
        let (forecast, low, high) = (number("value")?, number("low")?, number("high")?);
        ensure!(low <= forecast && forecast <= high, "{step}");
        ensure!((forecast - value(hour)).abs() < 1.6, "{step} and not {}", value(hour));
        held += i32::from((low..=high).contains(&value(hour)));
    }
    ensure!(held >= 19, "intervals of 90 % hold {held} of 24");
    ensure!(found["crossing"]["above"] == 28.0 && !found["crossing"]["likely"].is_null(), "{found:#}");

    let stored = lab.cql(
        "SELECT location, model, value, low, TTL(value), iot_sensor_id FROM {ks}.iot_forecasts WHERE metric = \
         'temperature' ALLOW FILTERING",
    )?;
    ensure!(stored.len() == 24, "{} steps are stored", stored.len());
    let first = stored.first().context("a row")?;
    ensure!(first.get::<&str>(0)? == "plant-1" && found["model"] == first.get::<&str>(1)?);
    ensure!(steps[0]["value"] == first.get::<f64>(2)? && steps[0]["low"] == first.get::<f64>(3)?);
    ensure!((2_590_000..=2_592_000).contains(&first.get::<i32>(4)?), "30 days");
    ensure!(first.get::<uuid::Uuid>(5)?.is_nil(), "it is of the whole group");

    // From rollups it is the same forecast.
    let before = lab.ok(&[&["-q"], &FORECAST[..], &["--format", "csv"]].concat())?;
    lab.cql("TRUNCATE {ks}.rollup_dirty")?;
    lab.ok(&["-q", "rollup"])?;
    ensure!(lab.ok(&[&["-q"], &FORECAST[..], &["--format", "csv"]].concat())? == before);

    let tests = lab.lines(&[&["-q"], &FORECAST[..], &["--backtest", "--format", "ndjson"]].concat())?;
    let models: Vec<_> = tests.iter().filter_map(|test| test["model"].as_str()).collect();
    ensure!(models == ["seasonal-naive", "ets", "mstl", "mstl-ar", "mean"], "{tests:?}");
    let mase = |index: usize| tests[index]["mase"].as_f64().unwrap_or(f64::NAN);
    ensure!(mase(2) < mase(0) && mase(0) < mase(1), "a season with a trend is MSTL's: {tests:?}");
    Ok(())
}

fn what_cannot_be_forecast_says_what_it_takes() -> anyhow::Result<()> {
    let lab = stocked("forecast_short", 30)?;
    fn ask<'a>(rest: &[&'a str]) -> Vec<&'a str> {
        [&["-q"], &FORECAST[..], rest].concat()
    }
    let error = lab.fails(2, &ask(&[]))?;
    ensure!(error.contains("30 steps") && error.contains("--history"), "{error}");
    let error = lab.fails(1, &ask(&["--history", "5d"]))?;
    ensure!(error.contains("no reading has temperature"), "{error}");
    let error = lab.fails(2, &ask(&["--season", "90m"]))?;
    ensure!(error.contains("multiple of --step"), "{error}");
    let error = lab.fails(2, &["-q", "forecast", "--metric", "temperature"])?;
    ensure!(error.contains("--sensor"), "{error}");
    Ok(())
}

fn forecasts_of_a_file_are_scored_without_a_server() -> anyhow::Result<()> {
    let lab = Lab::new("forecast_file")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, output) = (path("load.csv"), path("forecasts.csv"));
    let rows = (0..20 * 24)
        .map(|hour| format!("2026-10-{:02} {:02}:00:00,{}\n", hour / 24 + 1, hour % 24, value(hour)));
    std::fs::write(&file, format!("when,load\n{}", rows.collect::<String>()))?;
    let nowhere = ["-q", "-O", "cassandra.contact_points=127.0.0.1:1", "forecast", "score", file.as_str()];
    let ask =
        ["--map", "when=recorded_timestamp,load=value", "--level", "90", "--origins", "6", "--every", "13h"];
    let rest = ["--output", output.as_str(), "--format", "json"];
    let found: Value = serde_json::from_str(&lab.ok(&[&nowhere[..], &ask, &rest].concat())?)?;
    let models = found["models"].as_array().context("no models")?;
    let names: Vec<_> = models.iter().filter_map(|model| model["model"].as_str()).collect();
    ensure!(names == ["seasonal-naive", "ets", "mstl", "mstl-ar", "mean", "auto"], "{found:#}");
    let figure = |name: &str| models[5][name].as_f64().with_context(|| format!("{name} in {found:#}"));
    ensure!(figure("mase")? < 0.95 && figure("coverage")? > 0.75 && figure("width")? > 0.0, "{found:#}");

    // The figures are those of the file.
    let mut steps = csv::Reader::from_path(&output)?;
    ensure!(
        steps.headers()?.iter().collect::<Vec<_>>().join(",")
            == "origin,timestamp,value,forecast,lower,upper"
    );
    let (mut held, mut squares, mut count) = (0.0, 0.0, 0.0);
    for step in steps.records() {
        let step = step?;
        ensure!(step[0] <= step[1], "{step:?}");
        let number = |index: usize| step[index].parse::<f64>();
        let (value, forecast) = (number(2)?, number(3)?);
        held += f64::from(u8::from((number(4)?..=number(5)?).contains(&value)));
        squares += (value - forecast).powi(2);
        count += 1.0;
    }
    ensure!(count == 6.0 * 24.0, "{count} steps");
    ensure!((held / count - figure("coverage")?).abs() < 1e-9, "{found:#}");
    ensure!(((squares / count).sqrt() - figure("rmse")?).abs() < 1e-9, "{found:#}");

    let error = lab.fails(2, &[&nowhere[..], &["--map", "x=y"]].concat())?;
    ensure!(error.contains("when, load"), "{error}");
    let error = lab.fails(2, &[&nowhere[..], &ask[..2], &["--horizon", "30d"]].concat())?;
    ensure!(error.contains("not enough history") && error.contains("--horizon"), "{error}");
    Ok(())
}

fn anomalies_are_scored_against_labels() -> anyhow::Result<()> {
    let lab = Lab::new("scores")?;
    let ledger = tempfile::NamedTempFile::new()?;
    let path = ledger.path().to_str().context("a path")?;
    let fleet = "--sensors 20 --locations 1 --start 2026-10-01T00:00:00Z --count 20000";
    lab.simulate(&format!("{fleet} --extremes 0.005 --ledger {path}"))?;
    lab.ingest()?;
    let score = |file: &str, rest: &[&str]| -> anyhow::Result<Value> {
        let ask = ["-q", "anomalies", "--metric", "temperature", "--format", "ndjson", "--score", file];
        let lines = lab.lines(&[&ask[..], rest].concat())?;
        lines.into_iter().next().context("one line")
    };
    let injected = std::fs::read_to_string(path)?.matches(r#""extreme":"temperature""#).count();
    let found = score(path, &["--method", "peers"])?;
    ensure!(found["windows"] == injected && injected > 10, "{injected} were injected: {found}");
    ensure!(found["recall"].as_f64() > Some(0.9) && found["precision"].as_f64() > Some(0.9), "{found}");
    let nothing = score(path, &["--above", "1000"])?;
    ensure!(nothing["found"] == 0 && nothing["recall"] == 0.0 && nothing["precision"].is_null(), "{nothing}");

    let windows = tempfile::NamedTempFile::new()?;
    std::fs::write(windows.path(), r#"{"all": [["2026-09-30", "2026-10-02"]]}"#)?;
    let everything = score(windows.path().to_str().context("a path")?, &["--above", "-1000"])?;
    ensure!(everything["f1"] == 1.0 && everything["false_alarms"] == 0, "{everything}");
    let error = lab
        .fails(2, &["-q", "anomalies", "--metric", "temperature", "--above", "1", "--score", "/dev/null"])?;
    ensure!(error.contains("no labels"), "{error}");
    Ok(())
}

fn a_forecast_is_exported_and_made_anew() -> anyhow::Result<()> {
    let lab = Lab::new("forecast_metrics")?;
    let now = chrono::Utc::now().timestamp_millis();
    let reading = |hour: i64, later: i64| {
        let rest = format!(r#","temperature":{}"#, value(hour));
        message("plant-1", 1, now - hour * HOUR + later, &rest)
    };
    lab.send((1..=15 * 24).map(|hour| reading(hour, 0)))?;
    lab.ingest()?;
    let address = "127.0.42.1:19467";
    let ask =
        ["-q", "forecast", "--metric", "temperature", "--location", "plant-1", "--device-type", "thermostat"];
    let export =
        ["--horizon", "12h", "--above", "-50", "--every", "2s", "--store", "--metrics-addr", address];
    let mut exporting = lab.spawn(&[&ask[..], &export[..]].concat())?;
    let metric = |name: &str, labels: &[&str]| -> anyhow::Result<f64> {
        let text = scrape(address)?;
        let line = text.lines().find(|line| {
            line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
        });
        Ok(line
            .with_context(|| format!("no {name} {labels:?} in\n{text}"))?
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .parse()?)
    };
    let made =
        || metric("iotctl_forecast_timestamp_seconds", &["location=\"plant-1\"", "metric=\"temperature\""]);
    eventually("the first forecast", Duration::from_secs(60), || Ok(made().is_ok()))?;
    let [low, forecast, high] = ["low", "value", "high"]
        .map(|bound| metric("iotctl_forecast", &[&format!("bound=\"{bound}\""), "ahead_seconds=\"3600\""]));
    let (low, forecast, high) = (low?, forecast?, high?);
    ensure!(
        low <= forecast && forecast <= high && (10.0..35.0).contains(&forecast),
        "{low} {forecast} {high}"
    );
    metric("iotctl_forecast", &["ahead_seconds=\"43200\""])?;
    ensure!(metric("iotctl_forecast_crossing_seconds", &["bound=\"likely\"", "limit=\"-50\""])? == 0.0);
    ensure!(metric("iotctl_forecast_mean_absolute_error", &["model=\"mstl\""])? > 0.0);
    let first = made()?;
    eventually("the next forecast", Duration::from_secs(30), || Ok(made()? > first))?;
    ensure!(metric("iotctl_forecast_failures_total", &[])? == 0.0);
    ensure!(exporting.terminate()? == Some(0), "it did not end well");
    let rows =
        lab.cql("SELECT DISTINCT location, device_type, metric, iot_sensor_id FROM {ks}.iot_forecasts")?;
    ensure!(rows.iter().count() == 1, "the forecast is not stored");
    let refused = lab.run(&[&ask[..], &["--every", "2s"]].concat())?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("--metrics-addr"), "{refused:#?}");
    Ok(())
}
