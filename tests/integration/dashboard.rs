//! The dashboard's API: its answers are those of the commands and of its own description, and strangers are sent away.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::support::{CASSANDRA, Lab, NOBODY, eventually, message};

crate::trials!(
    answers_equal_those_of_the_commands,
    every_documented_path_answers_as_it_is_described,
    statistics_and_series_of_many_are_those_of_the_commands_in_every_format,
    a_forecast_equals_that_of_the_command,
    a_sensor_keeps_the_metrics_that_its_newest_reading_lacks,
    sensors_are_found_by_parts_of_names_and_ids_in_every_location,
    states_are_stretches_of_one_value_and_long_ranges_have_means,
    alerts_are_those_of_the_command,
    answers_are_compressed_for_clients_that_accept_it,
    a_clock_that_is_ahead_does_not_make_the_fleet_look_fresh,
    a_bad_request_is_a_problem_with_its_remedy,
    a_name_that_was_made_to_resolve_here_is_refused,
    a_listener_receives_a_new_reading_and_a_signal_ends_it,
    an_unreachable_cassandra_is_reported_and_found_when_it_is_back,
);

const PATIENCE: Duration = Duration::from_secs(30);

/// A dashboard that runs beside the test.
struct Dashboard {
    child: Child,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Dashboard {
    fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut child = lab
            .command(&["dashboard", "--addr", "127.0.42.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.take().context("its stderr")?).read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.and_then(|address| address.parse().ok()).context(line)?;
        Ok(Self { child, address })
    }

    fn open(&self, path: &str, headers: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")?;
        Ok(stream)
    }

    fn get_with(&self, path: &str, headers: &str) -> anyhow::Result<Answer> {
        let mut text = String::new();
        self.open(path, headers)?.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{path}: {text:?}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Answer { status, headers, body: body.to_owned() })
    }

    fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.get_with(path, &format!("Host: {}\r\n", self.address))
    }

    /// The body of an answer that must be good.
    fn json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        ensure!(answer.headers["content-type"] == "application/json", "{path}: {:?}", answer.headers);
        Ok(serde_json::from_str(&answer.body)?)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A few sensors' hours up to now.
fn fleet(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let start =
        (chrono::Utc::now() - chrono::TimeDelta::hours(5)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    lab.simulate(&format!(
        "--count 6000 --sensors 20 --locations 2 --start {start} --step 1m --missing 0.05 \
         --extremes 0.005"
    ))?;
    // One that has been silent for hours.
    let old = chrono::Utc::now().timestamp_millis() - 4 * 3_600_000;
    lab.send([message("plant-1", 77, old, r#","temperature":20.5"#)])?;
    lab.ingest()?;
    Ok(lab)
}

fn a_thermostat(lab: &Lab) -> anyhow::Result<String> {
    let newest = lab.query("thermostat", &["--latest", "--last", "1h"])?;
    Ok(newest.first().context("a thermostat")?["iot_sensor_id"].as_str().context("an id")?.to_owned())
}

fn answers_equal_those_of_the_commands() -> anyhow::Result<()> {
    let lab = fleet("dash_answers")?;
    let dashboard = Dashboard::start(&lab)?;
    let sensor = a_thermostat(&lab)?;
    let (from, to) = ("2026-01-01", "now");

    let rows = lab.lines(&[
        "-q",
        "query",
        "--sensor",
        &sensor,
        "--from",
        from,
        "--to",
        to,
        "--order",
        "asc",
        "--columns",
        "recorded_timestamp,temperature",
        "--format",
        "ndjson",
    ])?;
    let values: Vec<_> = rows
        .iter()
        .filter(|row| row["temperature"].is_number())
        .map(|row| (row["recorded_timestamp"].clone(), row["temperature"].clone()))
        .collect();
    ensure!(values.len() > 200, "{} values", values.len());
    let points = |series: &Value| -> Vec<(Value, Value)> {
        let points = series["points"].as_array().cloned().unwrap_or_default();
        points.into_iter().map(|point| (point["time"].clone(), point["value"].clone())).collect()
    };
    // Columns of less than a minute hold one value each.
    let whole =
        dashboard.json(&format!("/api/series?sensor={sensor}&metric=temperature&last=6h&columns=2000"))?;
    ensure!(points(&whole) == values, "{} points of {} values", points(&whole).len(), values.len());
    // In few columns, the highest and the lowest are still there.
    let few = dashboard.json(&format!("/api/series?sensor={sensor}&metric=temperature&last=6h&columns=3"))?;
    let number = |value: &(Value, Value)| value.1.as_f64().unwrap_or(f64::NAN);
    let highest = values.iter().map(number).fold(f64::MIN, f64::max);
    let lowest = values.iter().map(number).fold(f64::MAX, f64::min);
    let drawn = points(&few);
    ensure!(drawn.len() <= 8 && few["values"] == values.len(), "{few}");
    ensure!(drawn.iter().any(|point| number(point) == highest), "{highest} is lost: {few}");
    ensure!(drawn.iter().any(|point| number(point) == lowest), "{lowest} is lost: {few}");
    ensure!(few["highest"] == highest && few["lowest"] == lowest, "{few}");

    for (side, flag) in [("highest", "--highest"), ("lowest", "--lowest")] {
        let mut told = lab.lines(&[
            "-q",
            "extremes",
            "--metric",
            "temperature",
            flag,
            "--top",
            "7",
            "--last",
            "1d",
            "--format",
            "ndjson",
        ])?;
        // The command repeats the metric in each row.
        for row in told.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|name, _| name != "metric" && name != "unit");
        }
        let answer =
            dashboard.json(&format!("/api/extremes?metric=temperature&side={side}&top=7&last=1d"))?;
        ensure!(answer["extremes"] == Value::from(told.clone()), "{answer} instead of {told:?}");
        ensure!(told.len() == 7, "{told:?}");
    }

    let told = lab.lines(&["-q", "silent", "--longer-than", "2h", "--format", "ndjson"])?;
    let answer = dashboard.json("/api/silent?longer_than=2h")?;
    ensure!(told.len() == 1 && answer["silent"] == 1, "{told:?} {answer}");
    for name in ["iot_sensor_id", "location", "device_type", "recorded_timestamp"] {
        ensure!(answer["list"][0][name] == told[0][name], "{name}: {answer} instead of {told:?}");
    }

    let told = lab.lines(&["-q", "sensors", "--location", "plant-1", "--format", "ndjson"])?;
    let answer = dashboard.json("/api/sensors?location=plant-1")?;
    let readings = answer["readings"].as_array().context("readings")?;
    ensure!(readings.len() == told.len() && answer["truncated"] == false, "{answer}");
    for (reading, told) in readings.iter().zip(&told) {
        let mut told = told.clone();
        told.as_object_mut().context("an object")?.remove("age_seconds");
        ensure!(*reading == told, "{reading} instead of {told}");
    }
    let fleet = dashboard.json("/api/fleet")?;
    ensure!(fleet["sensors"] == 21 && fleet["silent"] == 1, "{fleet}");

    let mut found = 0;
    for reading in readings {
        let sensor = reading["iot_sensor_id"].as_str().unwrap_or_default();
        let told = lab.lines(&[
            "-q",
            "anomalies",
            "--metric",
            "temperature",
            "--sensor",
            sensor,
            "--last",
            "6h",
            "--format",
            "ndjson",
        ])?;
        let answer = dashboard.json(&format!("/api/anomalies?sensor={sensor}&metric=temperature&last=6h"))?;
        let anomalies = answer["anomalies"].as_array().context("anomalies")?;
        ensure!(anomalies.len() == told.len(), "{answer} instead of {told:?}");
        for (anomaly, told) in anomalies.iter().zip(&told) {
            for name in ["from", "to", "points", "worst", "value"] {
                ensure!(anomaly[name] == told[name], "{name}: {anomaly} instead of {told}");
            }
        }
        found += told.len();
    }
    ensure!(found > 0, "no anomaly among injected extremes");
    Ok(())
}

/// Five days by the hour, up to now, of a sensor of its own.
fn old_sensor(lab: &Lab) -> anyhow::Result<String> {
    let now = chrono::Utc::now().timestamp_millis();
    let sensor = 78;
    lab.send((0..120).map(|hour| {
        let temperature =
            20.0 + 4.0 * (f64::from(hour) / 24.0 * std::f64::consts::TAU).sin() + f64::from(hour % 5) / 10.0;
        message(
            "plant-3",
            sensor,
            now - i64::from(hour) * 3_600_000,
            &format!(r#","temperature":{temperature}"#),
        )
    }))?;
    lab.ingest()?;
    Ok(uuid::Uuid::from_u128(sensor).to_string())
}

fn a_forecast_equals_that_of_the_command() -> anyhow::Result<()> {
    let lab = fleet("dash_forecast")?;
    let sensor = old_sensor(&lab)?;
    let dashboard = Dashboard::start(&lab)?;
    let ask = [
        "-q",
        "forecast",
        "--metric",
        "temperature",
        "--sensor",
        &sensor,
        "--horizon",
        "6h",
        "--format",
        "json",
    ];
    let told: Value = serde_json::from_str(&lab.ok(&ask)?)?;
    let answer = dashboard.json(&format!("/api/forecast?sensor={sensor}&metric=temperature&hours=6"))?;
    let values = |forecast: &Value, list: &str| -> Vec<[Value; 3]> {
        let points = forecast[list].as_array().cloned().unwrap_or_default();
        points.iter().map(|point| ["value", "low", "high"].map(|key| point[key].clone())).collect()
    };
    ensure!(answer["model"] == told["model"], "{answer} instead of {told}");
    ensure!(values(&answer, "points").len() == 6, "{answer}");
    ensure!(values(&answer, "points") == values(&told, "steps"), "{answer} instead of {told}");
    // A past that is too short is no error: the page draws no band.
    let young = a_thermostat(&lab)?;
    let none = dashboard.json(&format!("/api/forecast?sensor={young}&metric=temperature"))?;
    let reason = none["reason"].as_str().unwrap_or_default();
    ensure!(values(&none, "points").is_empty() && reason.contains("not enough history"), "{none}");
    Ok(())
}

/// JSON Schema, as far as the description uses it; any other keyword is an error, so that nothing goes unchecked.
fn check(schema: &Value, value: &Value, root: &Value, at: &str) -> anyhow::Result<()> {
    let schema = schema.as_object().with_context(|| format!("{at}: no schema"))?;
    for (keyword, rule) in schema {
        match (keyword.as_str(), rule) {
            ("description" | "example", _) => {}
            ("$ref", Value::String(name)) => {
                let target = root.pointer(name.trim_start_matches('#')).context(name.clone())?;
                check(target, value, root, at)?;
            }
            ("type", rule) => {
                let names: Vec<&str> = match rule {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
                    name => name.as_str().into_iter().collect(),
                };
                let is = |name: &&str| match *name {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    _ => false,
                };
                ensure!(names.iter().any(is), "{at} is no {names:?}: {value}");
            }
            ("required", Value::Array(names)) => {
                for name in names.iter().filter_map(Value::as_str) {
                    ensure!(value.get(name).is_some(), "{at} has no {name}: {value}");
                }
            }
            ("properties", rule) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(name) {
                        check(schema, value, root, &format!("{at}.{name}"))?;
                    }
                }
            }
            ("additionalProperties", rule) => {
                let known = schema.get("properties");
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.get(name).is_some()) {
                        continue;
                    }
                    ensure!(*rule != Value::Bool(false), "{at}.{name} is not described");
                    check(rule, value, root, &format!("{at}.{name}"))?;
                }
            }
            ("items", rule) => {
                for value in value.as_array().into_iter().flatten() {
                    check(rule, value, root, &format!("{at}[]"))?;
                }
            }
            ("enum", Value::Array(values)) => ensure!(values.contains(value), "{at} is {value}"),
            ("oneOf", Value::Array(schemas)) => {
                let fits = schemas.iter().filter(|schema| check(schema, value, root, at).is_ok()).count();
                ensure!(fits == 1, "{at} fits {fits} of its schemas: {value}");
            }
            ("format", Value::String(format)) => {
                let text = value.as_str().unwrap_or_default();
                match format.as_str() {
                    "uuid" => drop(uuid::Uuid::parse_str(text).context(at.to_owned())?),
                    "date-time" => drop(chrono::DateTime::parse_from_rfc3339(text).context(at.to_owned())?),
                    other => bail!("{at}: format {other} is not checked"),
                }
            }
            (other, _) => bail!("{at}: keyword {other} is not checked"),
        }
    }
    Ok(())
}

fn every_documented_path_answers_as_it_is_described() -> anyhow::Result<()> {
    let lab = fleet("dash_openapi")?;
    let dashboard = Dashboard::start(&lab)?;
    let sensor = a_thermostat(&lab)?;
    let old = old_sensor(&lab)?;
    let openapi = dashboard.json("/api/openapi.json")?;
    let questions = [
        ("/api/fleet", String::new()),
        ("/api/sensors", "?location=plant-1&device_type=thermostat&limit=5".to_owned()),
        ("/api/sensors/{sensor}", String::new()),
        ("/api/series", format!("?sensor={sensor}&metric=temperature&last=6h")),
        ("/api/stats", "?metric=temperature&by=location,1h&last=6h&agg=count,avg,p50".to_owned()),
        ("/api/extremes", "?metric=temperature&side=highest&last=1d&location=plant-1".to_owned()),
        ("/api/silent", "?longer_than=1h&top=3".to_owned()),
        ("/api/anomalies", format!("?sensor={sensor}&metric=temperature&method=robust-z&sensitivity=1")),
        ("/api/forecast", format!("?sensor={old}&metric=temperature&hours=6")),
        ("/api/states", format!("?sensor={sensor}&last=6h")),
        ("/api/alerts", format!("?sensor={sensor}&top=5")),
        ("/api/session", String::new()),
        ("/api/status", String::new()),
        ("/api/openapi.json", String::new()),
    ];
    let paths = openapi["paths"].as_object().context("paths")?;
    // What changes something is asked in the tests of the login.
    for (path, description) in paths.iter().filter(|(_, description)| description.get("get").is_some()) {
        let answers = &description["get"]["responses"];
        let good = &answers["200"]["content"];
        // Only in builds with it.
        if path == "/api/sql" {
            let answer = dashboard.get("/api/sql?q=SELECT+1+AS+n&format=ndjson")?;
            let (status, text) =
                if cfg!(feature = "sql") { (200, "{\"n\":1}\n") } else { (501, "--features sql") };
            ensure!(
                answer.status == status && answer.body.contains(text),
                "{} {}",
                answer.status,
                answer.body
            );
            continue;
        }
        if path == "/api/events" {
            ensure!(good.get("text/event-stream").is_some(), "{path}");
            continue;
        }
        let (_, query) = questions
            .iter()
            .find(|(known, _)| known == path)
            .with_context(|| format!("{path} is not asked"))?;
        let asked = path.replace("{sensor}", &sensor);
        let answer = dashboard.json(&format!("{asked}{query}"))?;
        check(&good["application/json"]["schema"], &answer, &openapi, path)?;
        // A parameter that is asked for is described.
        let described: Vec<&str> = description["get"]["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(name) => openapi.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null),
                None => parameter,
            })
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        for name in query.trim_start_matches('?').split('&').filter_map(|part| part.split('=').next()) {
            ensure!(name.is_empty() || described.contains(&name), "{path}: {name} is not described");
        }
        // And one that is described is known to the server.
        for name in described.iter().filter(|name| !query.contains(&format!("{name}=")) && **name != "sensor")
        {
            let joint = if query.is_empty() { '?' } else { '&' };
            let answer = dashboard.get(&format!("{asked}{query}{joint}{name}=1"))?;
            ensure!(!answer.body.contains("unknown field"), "{path}: {name}: {}", answer.body);
        }
    }
    Ok(())
}

/// Rows with their means rounded: the order of addition, and with it the last digits, is that in which rows arrive.
fn rounded(rows: &[Value]) -> Vec<Value> {
    let round = |row: &Value| {
        let mut row = row.clone();
        if let Some(mean) = row["avg"].as_f64() {
            row["avg"] = format!("{mean:.8}").into();
        }
        row
    };
    rows.iter().map(round).collect()
}

fn statistics_and_series_of_many_are_those_of_the_commands_in_every_format() -> anyhow::Result<()> {
    let lab = fleet("dash_stats")?;
    let dashboard = Dashboard::start(&lab)?;
    let (from, to) = ("2026-01-01", "2027-06-01");
    let flags =
        ["-q", "stats", "--metric", "temperature", "--metric", "humidity", "--by", "location,device-type,1h"];
    let more = ["--agg", "count,min,avg,p95", "--from", from, "--to", to, "--time-zone", "Asia/Kolkata"];
    let expected = lab.lines(&[&flags[..], &more[..], &["--format", "ndjson"]].concat())?;
    ensure!(expected.len() > 20, "{} rows", expected.len());
    let query = format!(
        "/api/stats?metric=temperature&metric=humidity&by=location,device-type,1h&agg=count,min,avg,p95&from={from}&to={to}&zone=Asia/Kolkata"
    );
    let ndjson = dashboard.get(&format!("{query}&format=ndjson"))?;
    ensure!(
        ndjson.status == 200 && ndjson.headers["content-type"] == "application/x-ndjson",
        "{}",
        ndjson.body
    );
    let rows: Vec<Value> = ndjson.body.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // The command writes times in the zone; the API in UTC.
    let instant = |row: &Value| -> anyhow::Result<Value> {
        let mut row = row.clone();
        let time = row["time"].as_str().context("time")?;
        row["time"] = chrono::DateTime::parse_from_rfc3339(time)?.timestamp_millis().into();
        Ok(row)
    };
    let found = rows.iter().map(instant).collect::<anyhow::Result<Vec<_>>>()?;
    let wanted = expected.iter().map(instant).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(rounded(&found) == rounded(&wanted), "{found:#?}\ninstead of\n{wanted:#?}");
    let json = dashboard.json(&query)?;
    let json = json.as_array().context("an array")?;
    ensure!(rounded(json) == rounded(&rows), "JSON differs from NDJSON");
    let csv = dashboard.get_with(&query, &format!("Host: {}\r\nAccept: text/csv\r\n", dashboard.address))?;
    ensure!(
        csv.headers["content-type"] == "text/csv" && csv.body.lines().count() == rows.len() + 1,
        "{}",
        csv.body
    );
    ensure!(csv.body.starts_with("location,device_type,time,metric,unit,count,min,avg,p95"), "{}", csv.body);

    // By sensor, compared and filled, as the command does it.
    let flags = [
        "-q",
        "stats",
        "--metric",
        "temperature",
        "--by",
        "sensor,1d",
        "--agg",
        "avg",
        "--location",
        "plant-1",
    ];
    let more = ["--from", "2026-01-01", "--to", "2026-01-04", "--fill", "null", "--format", "ndjson"];
    let expected = lab.lines(&[&flags[..], &more[..]].concat())?;
    let found = dashboard.json(
        "/api/stats?metric=temperature&by=sensor,1d&agg=avg&location=plant-1&from=2026-01-01&to=2026-01-04&fill=null",
    )?;
    let found = found.as_array().context("an array")?;
    ensure!(rounded(found) == rounded(&expected), "{found:#?} instead of {expected:#?}");
    for (query, detail) in [
        ("metric=temperature&by=colour", "by"),
        ("metric=temperature&limit=1&by=sensor&from=2026-01-01", "more than 1 rows"),
        ("metric=temperature&format=xml", "format"),
        ("metric=temperature&location=nowhere", "nowhere"),
    ] {
        let answer = dashboard.get(&format!("/api/stats?{query}"))?;
        ensure!(
            (400..500).contains(&answer.status) && answer.body.contains(detail),
            "{query}: {}",
            answer.body
        );
    }

    // Series of two sensors and two metrics: every value, where a column holds one.
    let sensors = lab.lines(&["-q", "sensors", "--device-type", "thermostat", "--format", "ndjson"])?;
    let ids: Vec<&str> = sensors.iter().take(2).filter_map(|row| row["iot_sensor_id"].as_str()).collect();
    ensure!(ids.len() == 2, "{sensors:?}");
    let query = format!(
        "/api/series?sensor={}&metric=temperature,humidity&last=6h&columns=2000&format=ndjson",
        ids.join(",")
    );
    let answer = dashboard.get(&query)?;
    ensure!(answer.status == 200, "{}", answer.body);
    let rows: Vec<Value> = answer.body.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut values = 0;
    for id in ids {
        for metric in ["temperature", "humidity"] {
            let own = lab.lines(&[
                "-q",
                "query",
                "--sensor",
                id,
                "--last",
                "6h",
                "--order",
                "asc",
                "--format",
                "ndjson",
                "--columns",
                &format!("recorded_timestamp,{metric}"),
            ])?;
            let own: Vec<_> = own
                .iter()
                .filter(|row| row[metric].is_number())
                .map(|row| (row["recorded_timestamp"].clone(), row[metric].clone()))
                .collect();
            let told: Vec<_> = rows
                .iter()
                .filter(|row| row["iot_sensor_id"] == id && row["metric"] == metric)
                .map(|row| (row["recorded_timestamp"].clone(), row["value"].clone()))
                .collect();
            ensure!(told == own, "{id} {metric}: {told:?} instead of {own:?}");
            values += own.len();
        }
    }
    ensure!(values > 300, "only {values} values were compared");
    Ok(())
}

fn a_sensor_keeps_the_metrics_that_its_newest_reading_lacks() -> anyhow::Result<()> {
    let lab = Lab::new("dash_metrics")?;
    let now = chrono::Utc::now().timestamp_millis();
    let minute = |ago: i64| now - ago * 60_000;
    let sensor = uuid::Uuid::from_u128(1).to_string();
    let steady =
        (10..190).map(|ago| message("plant-1", 1, minute(ago), r#","temperature":21.3,"humidity":0.1"#));
    lab.send(steady.chain([
        message("plant-1", 1, minute(3), r#","temperature":21.3,"other_metrics":{"rpm":900.5}"#),
        message("plant-1", 1, minute(2), r#","temperature":21.3,"other_metrics":{"charge":3}"#),
        message("plant-1", 1, minute(1), r#","temperature":21.3"#),
    ]))?;
    lab.ingest()?;
    let dashboard = Dashboard::start(&lab)?;
    let names = |body: &Value| -> Vec<String> {
        let metrics = body["metrics"].as_array().into_iter().flatten();
        metrics.filter_map(|metric| metric["name"].as_str()).map(str::to_owned).collect()
    };
    let answer = dashboard.json(&format!("/api/sensors/{sensor}"))?;
    ensure!(names(&answer) == ["temperature", "humidity", "charge", "rpm"], "{answer}");
    ensure!(
        answer["readings"][0].get("humidity").is_none(),
        "an older value is shown as the newest: {answer}"
    );
    // A unit that a tag states is that of the sensor, and of no other.
    lab.ok(&["-q", "sensors", "tag", &sensor, "unit.rpm=1/min"])?;
    let answer = dashboard.json(&format!("/api/sensors/{sensor}"))?;
    let units = |body: &Value| -> Vec<Value> {
        let metrics = body["metrics"].as_array().into_iter().flatten();
        metrics.map(|metric| metric["unit"].clone()).collect()
    };
    ensure!(units(&answer) == [json!("°C"), json!("%RH"), Value::Null, json!("1/min")], "{answer}");
    let series = dashboard.json(&format!("/api/series?sensor={sensor}&metric=rpm&last=6h"))?;
    ensure!(series["unit"] == "1/min" && series["values"] == 1, "{series}");
    let csv = dashboard.get(&format!("/api/series?sensor={sensor}&metric=rpm,charge&last=6h&format=csv"))?;
    ensure!(csv.body.contains(",rpm,1/min,900.5") && csv.body.contains(",charge,,3"), "{}", csv.body);
    // The fleet's list is not that of the newest readings either.
    let fleet = dashboard.json("/api/fleet")?;
    ensure!(names(&fleet)[..2] == ["temperature", "humidity"], "{fleet}");
    ensure!(units(&fleet)[2..].iter().all(Value::is_null), "{fleet}");
    // 32-bit values whose sum is rounded: the mean of equal values is that value, as it was sent.
    for (metric, value) in [("temperature", 21.3), ("humidity", 0.1)] {
        let series = dashboard.json(&format!("/api/series?sensor={sensor}&metric={metric}&last=6h"))?;
        for name in ["lowest", "mean", "highest"] {
            ensure!(series[name].as_f64() == Some(value), "{metric} {name}: {}", series[name]);
        }
    }
    let unknown = dashboard.get("/api/sensors/00000000-0000-4000-8000-00000000ffff")?;
    ensure!(unknown.status == 404 && unknown.body.contains("no readings of sensor"), "{}", unknown.body);
    Ok(())
}

fn sensors_are_found_by_parts_of_names_and_ids_in_every_location() -> anyhow::Result<()> {
    let lab = Lab::new("dash_find")?;
    let now = chrono::Utc::now().timestamp_millis();
    lab.send([
        message("plant-1", 0xabc1, now, r#","temperature":20"#),
        message("plant-2", 0xabc2, now, r#","temperature":20"#),
        message("plant-3", 0xabc3, now, r#","temperature":20"#),
    ])?;
    lab.ingest()?;
    for (id, name) in [(0xabc1, "Boiler 2"), (0xabc2, "Kiln")] {
        lab.ok(&["-q", "sensors", "rename", &uuid::Uuid::from_u128(id).to_string(), name])?;
    }
    let dashboard = Dashboard::start(&lab)?;
    let found = |text: &str| -> anyhow::Result<Vec<String>> {
        let answer = dashboard.json(&format!("/api/sensors?find={text}"))?;
        let readings = answer["readings"].as_array().context("readings")?;
        ensure!(answer["sensors"] == readings.len(), "{answer}");
        Ok(readings.iter().map(|it| it["location"].as_str().unwrap_or_default().to_owned()).collect())
    };
    ensure!(found("oIlEr")? == ["plant-1"]);
    // Those with a name first.
    ensure!(found("abc")? == ["plant-1", "plant-2", "plant-3"]);
    ensure!(found("0000-00000000abc3")? == ["plant-3"]);
    ensure!(found("nobody")?.is_empty());
    let one = dashboard.json("/api/sensors?find=abc&location=plant-2&limit=1")?;
    ensure!(one["sensors"] == 1 && one["readings"][0]["sensor_name"] == "Kiln", "{one}");
    Ok(())
}

fn states_are_stretches_of_one_value_and_long_ranges_have_means() -> anyhow::Result<()> {
    let lab = Lab::new("dash_states")?;
    let now = chrono::Utc::now().timestamp_millis();
    let sensor = uuid::Uuid::from_u128(1).to_string();
    lab.send((0..600_i64).map(|second| {
        let mode = if (200..400).contains(&second) { "heating" } else { "idle" };
        let more = format!(
            r#","temperature":{},"motion_detected":{},"states":{{"mode":"{mode}"}}"#,
            20 + second % 2 * 2,
            second >= 300
        );
        message("plant-1", 1, now - (600 - second) * 1_000, &more)
    }))?;
    lab.ingest()?;
    let dashboard = Dashboard::start(&lab)?;
    let answer = dashboard.json(&format!("/api/states?sensor={sensor}&last=1h"))?;
    let spans = |index: usize| -> Vec<(String, i64)> {
        let list = answer["states"][index]["spans"].as_array().cloned().unwrap_or_default();
        let at = |text: &Value| {
            chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap_or_default())
                .map(|at| at.timestamp_millis())
                .unwrap_or_default()
        };
        list.iter()
            .map(|it| {
                (
                    it["value"].as_str().unwrap_or_default().to_owned(),
                    (at(&it["to"]) - at(&it["from"])) / 1_000,
                )
            })
            .collect()
    };
    let pair = |value: &str, seconds: i64| (value.to_owned(), seconds);
    ensure!(answer["states"][0]["name"] == "mode" && answer["states"][1]["name"] == "motion", "{answer}");
    ensure!(spans(0) == [pair("idle", 200), pair("heating", 200), pair("idle", 199)], "{answer}");
    ensure!(spans(1) == [pair("no", 300), pair("yes", 299)], "{answer}");

    let series = |columns: usize| {
        dashboard.json(&format!("/api/series?sensor={sensor}&metric=temperature&last=1h&columns={columns}"))
    };
    // Columns of a minute. The first and the last have as many readings as the moment of the test leaves them.
    let dense = series(60)?;
    let columns = dense["columns"].as_array().context("columns")?;
    ensure!((10..=11).contains(&columns.len()), "{dense}");
    for column in &columns[1..columns.len() - 1] {
        ensure!(column["low"] == 20.0 && column["high"] == 22.0, "{dense}");
        ensure!((column["mean"].as_f64().unwrap_or_default() - 21.0).abs() < 0.1, "{dense}");
    }
    ensure!(series(2_000)?.get("columns").is_none(), "means of single values");
    Ok(())
}

fn alerts_are_those_of_the_command() -> anyhow::Result<()> {
    let lab = Lab::new("dash_alerts")?;
    let dashboard = Dashboard::start(&lab)?;
    let none = dashboard.json("/api/alerts")?;
    ensure!(none["firing_count"] == 0 && none["alerts"] == Value::Array(vec![]), "{none}");
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 30 }\n",
    )?;
    let now = chrono::Utc::now().timestamp_millis();
    let reading = |id: u128, ago: i64, value: i64| {
        message("plant-1", id, now - ago * 1_000, &format!(r#","temperature":{value}"#))
    };
    lab.send([reading(1, 50, 20), reading(1, 40, 40), reading(1, 30, 20), reading(2, 20, 41)])?;
    lab.ok(&["-q", "ingest", "--until-end", "--detect", &rules.to_string_lossy(), "--format", "json"])?;
    let expected = lab.lines(&["-q", "alerts", "--firing", "--format", "ndjson"])?;
    ensure!(expected.len() == 1, "{expected:?}");
    let mut answer = Value::Null;
    eventually("the alerts are read", PATIENCE, || {
        answer = dashboard.json("/api/alerts")?;
        Ok(answer["firing_count"] == 1)
    })?;
    ensure!(answer["firing"][0]["id"] == expected[0]["id"], "{answer} instead of {expected:?}");
    let all = lab.lines(&["-q", "alerts", "--format", "ndjson"])?;
    let ids = |list: &[Value]| list.iter().map(|alert| alert["id"].clone()).collect::<Vec<_>>();
    let mut told = ids(answer["alerts"].as_array().context("alerts")?);
    told.reverse();
    ensure!(told.len() == 3 && told == ids(&all), "{answer} instead of {all:?}");
    let own = dashboard.json(&format!("/api/alerts?sensor={}", uuid::Uuid::from_u128(1)))?;
    ensure!(own["firing_count"] == 0 && own["alerts"].as_array().is_some_and(|it| it.len() == 2), "{own}");
    Ok(())
}

fn answers_are_compressed_for_clients_that_accept_it() -> anyhow::Result<()> {
    let lab = Lab::new("dash_gzip")?;
    let dashboard = Dashboard::start(&lab)?;
    let length = |headers: &str| -> anyhow::Result<(usize, Option<String>)> {
        let mut bytes = Vec::new();
        let host = format!("Host: {}\r\n{headers}", dashboard.address);
        dashboard.open("/uplot.js", &host)?.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("a head")?;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let line = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
        Ok((bytes.len() - end, line.map(str::to_owned)))
    };
    let (plain, none) = length("")?;
    let (packed, gzip) = length("Accept-Encoding: gzip, br\r\n")?;
    ensure!(none.is_none() && gzip.as_deref() == Some("gzip"), "{none:?} {gzip:?}");
    ensure!(packed * 2 < plain, "{packed} of {plain} bytes");
    Ok(())
}

fn a_clock_that_is_ahead_does_not_make_the_fleet_look_fresh() -> anyhow::Result<()> {
    let lab = Lab::new("dash_ahead")?;
    let now = chrono::Utc::now().timestamp_millis();
    lab.send([
        message("plant-1", 1, now - 600_000, r#","temperature":20"#),
        message("plant-1", 2, now + 1_800_000, r#","temperature":20"#),
    ])?;
    lab.ingest()?;
    let dashboard = Dashboard::start(&lab)?;
    let fleet = dashboard.json("/api/fleet")?;
    let at = |name: &str| -> anyhow::Result<i64> {
        let text = fleet["groups"][0][name].as_str().with_context(|| format!("no {name}: {fleet}"))?;
        Ok(chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis())
    };
    ensure!(at("recorded_timestamp")? == now - 600_000, "{fleet}");
    ensure!(at("ahead_timestamp")? == now + 1_800_000, "{fleet}");
    Ok(())
}

fn a_bad_request_is_a_problem_with_its_remedy() -> anyhow::Result<()> {
    let lab = fleet("dash_bad")?;
    let dashboard = Dashboard::start(&lab)?;
    let openapi = dashboard.json("/api/openapi.json")?;
    let schema = &openapi["components"]["schemas"]["Problem"];
    let sensor = a_thermostat(&lab)?;
    let nobody = uuid::Uuid::from_u128(1);
    for (status, path) in [
        (400, format!("/api/series?sensor={sensor}&metric=location")),
        (400, format!("/api/series?sensor={sensor}&metric=temperature&columns=2001")),
        (400, format!("/api/series?sensor={sensor}&metric=temperature&from=now&to=-1h")),
        (400, format!("/api/series?sensor={sensor}&metric=temperature&from=1600-01-01")),
        (400, "/api/series?sensor=%07&metric=temperature".to_owned()),
        (400, format!("/api/sensors/{}", "x".repeat(257))),
        (404, "/api/series?sensor=%27%3B--&metric=temperature".to_owned()),
        (404, "/api/sensors/%3Cscript%3E".to_owned()),
        (400, "/api/extremes?metric=temperature&side=highest&top=100000".to_owned()),
        (400, "/api/silent?longer_than=soon".to_owned()),
        (400, "/api/silent?surprise=1".to_owned()),
        (400, "/api/sensors".to_owned()),
        (400, "/api/alerts?sensor=boiler".to_owned()),
        (400, format!("/api/forecast?sensor={sensor}&metric=temperature&hours=0")),
        (404, format!("/api/series?sensor={nobody}&metric=temperature")),
        (404, "/api/extremes?metric=temperature&side=lowest&location=plnat-1".to_owned()),
        (404, "/api/nothing".to_owned()),
        (404, "/../Cargo.toml".to_owned()),
    ] {
        let answer = dashboard.get(&path)?;
        ensure!(answer.status == status, "{path}: {} {}", answer.status, answer.body);
        ensure!(answer.headers["content-type"] == "application/problem+json", "{path}");
        let problem: Value = serde_json::from_str(&answer.body)?;
        check(schema, &problem, &openapi, &path)?;
        ensure!(problem["status"] == status && problem["remedy"].is_string(), "{path}: {problem}");
    }
    let mut stream = TcpStream::connect(dashboard.address)?;
    write!(stream, "DELETE /api/fleet HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 405"), "{text}");
    Ok(())
}

fn a_name_that_was_made_to_resolve_here_is_refused() -> anyhow::Result<()> {
    let lab = Lab::new("dash_host")?;
    let dashboard = Dashboard::start(&lab)?;
    for headers in ["Host: evil.example\r\n", "Host: evil.example\r\nHost: localhost\r\n", ""] {
        for path in ["/", "/api/fleet", "/api/events"] {
            let answer = dashboard.get_with(path, headers)?;
            // A second Host, or none, is refused by the HTTP server or by us.
            ensure!([400, 421].contains(&answer.status), "{headers:?} {path}: {}", answer.status);
            ensure!(!answer.body.contains("groups"), "{}", answer.body);
        }
    }
    let page = dashboard.get("/")?;
    ensure!(page.status == 200 && page.body.contains("<title>iotctl"), "{}", page.body);
    let policy = &page.headers["content-security-policy"];
    ensure!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-cache")] {
        ensure!(page.headers[name] == value, "{:?}", page.headers);
    }
    ensure!(!page.headers.keys().any(|name| name.starts_with("access-control")), "{:?}", page.headers);
    let host = format!("Host: {}\r\nIf-None-Match: {}\r\n", dashboard.address, page.headers["etag"]);
    ensure!(dashboard.get_with("/", &host)?.status == 304);
    ensure!(dashboard.get("/api/fleet")?.headers["cache-control"] == "no-store");
    Ok(())
}

fn a_listener_receives_a_new_reading_and_a_signal_ends_it() -> anyhow::Result<()> {
    let lab = Lab::new("dash_events")?;
    let mut dashboard = Dashboard::start(&lab)?;
    let stream = dashboard.open("/api/events", &format!("Host: {}\r\n", dashboard.address))?;
    let mut lines = BufReader::new(stream).lines();
    let mut wait_for = |what: &str| -> anyhow::Result<()> {
        let started = Instant::now();
        for line in lines.by_ref() {
            if line?.contains(what) {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{what} was not told");
        }
        bail!("the stream ended before {what}")
    };
    wait_for("event: beat")?;
    wait_for("event: status")?;
    let now = chrono::Utc::now().timestamp_millis();
    lab.send([message("<img src=x onerror=alert(1)>", 5, now, r#","temperature":21.625"#)])?;
    lab.ingest()?;
    wait_for("event: readings")?;
    wait_for("21.625")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(dashboard.child.id())?);
    let started = Instant::now();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let status = dashboard.child.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(started.elapsed() < Duration::from_secs(4), "an open page held it for {:?}", started.elapsed());
    Ok(())
}

/// Forwards connections to Cassandra from a port that nobody listened on before.
fn forward(listener: TcpListener) {
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(CASSANDRA) else { return };
            let (Ok(mut from_near), Ok(mut to_far)) = (near.try_clone(), far.try_clone()) else { return };
            let (mut from_far, mut to_near) = (far, near);
            std::thread::spawn(move || std::io::copy(&mut from_near, &mut to_far));
            std::thread::spawn(move || std::io::copy(&mut from_far, &mut to_near));
        }
    });
}

fn an_unreachable_cassandra_is_reported_and_found_when_it_is_back() -> anyhow::Result<()> {
    let mut lab = Lab::new("dash_away")?;
    lab.send([message("plant-1", 5, chrono::Utc::now().timestamp_millis(), r#","temperature":21"#)])?;
    lab.ingest()?;
    let door = TcpListener::bind("127.0.42.1:0")?.local_addr()?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &door.to_string());
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", NOBODY);
    let dashboard = Dashboard::start(&lab)?;
    ensure!(dashboard.get("/")?.status == 200);
    let answer = dashboard.get("/api/fleet")?;
    ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{}", answer.body);
    ensure!(
        answer.body.contains("no Cassandra node answers") && answer.body.contains("remedy"),
        "{}",
        answer.body
    );
    let status = dashboard.json("/api/status")?;
    ensure!(status["cassandra"]["unknown"].is_string() && status["kafka"]["unknown"].is_string(), "{status}");
    ensure!(status["attention"].as_array().is_some_and(|list| list.len() == 2), "{status}");
    forward(TcpListener::bind(door)?);
    eventually("the dashboard finds Cassandra", PATIENCE, || {
        let answer = dashboard.get("/api/fleet")?;
        Ok(answer.status == 200 && answer.body.contains(r#""sensors":1"#))
    })
}
