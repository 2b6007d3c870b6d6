//! Sensors by their names: from a mapping, from the wire format, and as people rename them.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rollups::{age_marks, roll};
use crate::support::{Lab, contains};

crate::trials!(
    every_answer_shows_the_name_and_every_question_takes_it,
    names_of_any_kind_are_kept_whole_and_cannot_steer_a_terminal,
    a_name_of_the_wire_format_is_kept_and_survives_a_round_trip,
    a_rename_and_tags_are_not_undone_by_ingest,
    a_file_of_tags_is_set_whole_or_not_at_all,
    answers_by_tags_are_those_of_a_full_scan_from_rows_and_from_rollups,
    tags_of_messages_follow_them_and_peoples_tags_count_first,
    files_name_sensors_and_are_of_those_with_a_tag,
    an_audit_names_the_sensor_whose_reading_is_lost,
    dead_letters_and_silences_name_their_sensor,
    a_ledger_names_its_sensors_and_so_does_an_audit_of_what_never_was_stored,
    units_of_tags_stand_beside_the_values,
);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const MINUTE: i64 = 60_000;

const MAPPING: &str = r#"
[[source]]
location = "value.site"
device_type = { constant = "thermostat" }
sensor = "value.id"
recorded_timestamp = { from = "value.at", format = "ms" }
[source.metrics]
temperature = "value.t"
"#;

/// As the documentation says it.
fn id(name: &str) -> Uuid {
    let namespace = Uuid::from_u128(0x3b1f_6c0a_8f6e_4d53_a1c7_0d2e_94b8_5f66);
    Uuid::new_v5(&namespace, name.as_bytes())
}

fn mapping(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("mapping.toml");
    std::fs::write(&path, MAPPING)?;
    Ok(path.display().to_string())
}

fn reading(site: &str, sensor: &str, minute: i64, temperature: f64) -> (String, Vec<u8>) {
    let message = json!({"site": site, "id": sensor, "at": START + minute * MINUTE, "t": temperature});
    (sensor.to_owned(), message.to_string().into_bytes())
}

/// Two sensors with names, and one with a UUID, which has none.
fn named(name: &str, folder: &Path) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let uuid = Uuid::from_u128(7).to_string();
    let sensors = [("hall", "th-1", 20.0), ("hall", "th-2", 30.0), ("yard", uuid.as_str(), 10.0)];
    lab.send((0..90).flat_map(|minute| {
        sensors.map(|(site, sensor, base)| reading(site, sensor, minute, base + (minute % 7) as f64))
    }))?;
    let rules = folder.join("rules.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 35 }\n",
    )?;
    lab.ok(&[
        "-q",
        "ingest",
        "--until-end",
        "--mapping",
        &mapping(folder)?,
        "--detect",
        &rules.display().to_string(),
    ])?;
    Ok(lab)
}

/// (id, name) of each line.
fn sensors(lines: &[Value]) -> Vec<(String, Option<String>)> {
    let text = |line: &Value, key: &str| line[key].as_str().map(str::to_owned);
    let mut found: Vec<_> = lines
        .iter()
        .map(|line| (text(line, "iot_sensor_id").unwrap_or_default(), text(line, "sensor_name")))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn every_answer_shows_the_name_and_every_question_takes_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("shown", folder.path())?;
    let th1 = (id("th-1").to_string(), Some("th-1".to_owned()));
    let th2 = (id("th-2").to_string(), Some("th-2".to_owned()));
    let without = (Uuid::from_u128(7).to_string(), None);
    let mut all = vec![th1.clone(), th2.clone(), without.clone()];
    all.sort();
    for (question, expected) in [
        ("sensors", all.clone()),
        ("silent --longer-than 1m", all.clone()),
        ("extremes --metric temperature --highest", all.clone()),
        ("stats --metric temperature --by sensor", all),
        ("stats --metric temperature --by sensor --sensor th-1", vec![th1.clone()]),
        ("query --sensor th-1", vec![th1.clone()]),
        ("query --location yard --device-type thermostat", vec![without]),
        ("query --location hall --device-type thermostat --latest", {
            let mut both = vec![th1.clone(), th2.clone()];
            both.sort();
            both
        }),
        ("anomalies --metric temperature --above 35", vec![th2.clone()]),
        ("anomalies --metric temperature --above 25 --sensor th-1", vec![th1]),
        ("alerts --sensor th-2", vec![th2]),
    ] {
        let lines = lab.lines(&*format!("-q {question} --format ndjson"))?;
        ensure!(!lines.is_empty() && sensors(&lines) == expected, "{question}: {:?}", sensors(&lines));
        let table = lab.ok(&*format!("-q {question}"))?;
        for (id, name) in expected {
            let shown = name.as_ref().unwrap_or(&id);
            ensure!(table.contains(shown.as_str()), "{question}: no {shown} in {table}");
            let lists_both = question == "sensors";
            ensure!(name.is_none() || lists_both || !table.contains(&id), "{question}: {table}");
        }
    }
    let forecast = lab.run("-q forecast --metric temperature --sensor th-1 --step 1m --season 7m --horizon 7m --at 2026-11-01T01:30:00Z --format json")?;
    let forecast: Value = serde_json::from_str(&forecast.stdout)?;
    ensure!(forecast["sensor_name"] == "th-1", "{forecast}");
    let csv = lab.ok("-q query --sensor th-1 --limit 1 --columns sensor_name,temperature --format csv")?;
    ensure!(csv.starts_with("sensor_name,temperature\nth-1,"), "{csv}");
    let svg = folder.path().join("plot.svg");
    let svg = svg.display().to_string();
    lab.ok(&["-q", "query", "--sensor", "th-1", "--columns", "temperature", "--plot", &svg])?;
    let plot = std::fs::read_to_string(&svg)?;
    ensure!(plot.contains("sensor th-1") && !plot.contains(&id("th-1").to_string()), "{plot}");
    let plotted = ["-q", "query", "--location", "hall", "--device-type", "thermostat", "--plot", &svg];
    lab.ok(&plotted)?;
    contains(&std::fs::read_to_string(&svg)?, &["th-1", "th-2"])?;
    // Nobody is called so, and the error says who is.
    let error = lab.fails(1, "-q query --sensor th-11")?;
    contains(&error, &["no sensor is called th-11", "did you mean th-1"])?;
    Ok(())
}

fn names_of_any_kind_are_kept_whole_and_cannot_steer_a_terminal() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("hostile")?;
    let long = "b".repeat(256);
    let names = [
        "a,\"b\";c",
        "x\u{202e}y",
        "👨‍🔧 Kühlhaus",
        "'; DROP TABLE x; --",
        long.as_str(),
        "={1}",
        "../..",
        "-1",
    ];
    let refused = ["bell\u{7}", &"c".repeat(257)];
    let all = names.iter().copied().chain(refused);
    lab.send(all.zip(1..).map(|(name, minute)| reading("hall", name, minute, 20.0)))?;
    let report = lab.json(&[
        "-q",
        "ingest",
        "--until-end",
        "--format",
        "json",
        "--mapping",
        &mapping(folder.path())?,
    ])?;
    ensure!(report["rows"] == names.len() && report["dead_letters"] == refused.len(), "{report}");
    for name in names {
        let rows = lab.lines(&["-q", "query", &format!("--sensor={name}"), "--format", "ndjson"])?;
        ensure!(rows.len() == 1 && rows[0]["sensor_name"] == name, "{name}: {rows:#?}");
        ensure!(rows[0]["iot_sensor_id"] == id(name).to_string(), "{rows:#?}");
    }
    let rows = lab.ok("-q query --location hall --device-type thermostat --format csv")?;
    let mut reader = csv::Reader::from_reader(rows.as_bytes());
    let column = reader.headers()?.iter().position(|name| name == "sensor_name").context("a column")?;
    let mut found: Vec<String> =
        reader.records().map(|row| Ok(row?[column].to_owned())).collect::<anyhow::Result<_>>()?;
    found.sort();
    let mut expected = names.map(str::to_owned);
    expected.sort();
    ensure!(found == expected, "{found:?}");
    let table = lab.ok("-q query --location hall --device-type thermostat")?;
    ensure!(table.contains("x\\u{202e}y") && !table.contains('\u{202e}'), "{table}");
    Ok(())
}

fn a_name_of_the_wire_format_is_kept_and_survives_a_round_trip() -> anyhow::Result<()> {
    let lab = Lab::new("wire_name")?;
    let sensor = Uuid::from_u128(5);
    let message = json!({
        "location": "plant-1", "device_type": "thermostat", "iot_sensor_id": sensor, "sensor_name": "boiler",
        "recorded_timestamp": START, "temperature": 21.5,
    });
    lab.send([(sensor.to_string(), message.to_string().into_bytes())])?;
    lab.ingest()?;
    let rows = lab.ok("-q query --sensor boiler --format ndjson")?;
    let row: Value = serde_json::from_str(rows.trim())?;
    ensure!(row["sensor_name"] == "boiler" && row["iot_sensor_id"] == sensor.to_string(), "{row}");
    ensure!(row.get("states").is_none(), "a name is not a state: {row}");
    let other = Lab::new("wire_again")?;
    let folder = tempfile::tempdir()?;
    for (format, text) in [("ndjson", rows), ("csv", lab.ok("-q query --sensor boiler --format csv")?)] {
        let file = folder.path().join(format!("rows.{format}"));
        std::fs::write(&file, text)?;
        other.ok(&["-q", "import", &file.display().to_string(), "--direct"])?;
        let again = other.lines("-q query --sensor boiler --format ndjson")?;
        ensure!(again.len() == 1 && again[0] == row, "{format}: {again:#?} and not {row}");
    }
    Ok(())
}

fn again(lab: &Lab, folder: &Path, minute: i64) -> anyhow::Result<()> {
    lab.send([reading("hall", "th-1", minute, 21.0), reading("attic", "th-1", minute + 1, 22.0)])?;
    lab.ok(&["-q", "ingest", "--until-end", "--mapping", &mapping(folder)?]).map(drop)
}

fn a_rename_and_tags_are_not_undone_by_ingest() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("renamed", folder.path())?;
    let th1 = id("th-1").to_string();
    lab.ok("-q sensors rename th-1 'boiler north'")?;
    lab.ok("-q sensors tag th-1 room=A12 floor=2 'unit.temperature=°C'")?;
    // Another process sees the sensor for the first time, and registers it again.
    again(&lab, folder.path(), 200)?;
    for asked in ["th-1", "boiler north", th1.as_str()] {
        let rows = lab.lines(&["-q", "query", "--sensor", asked, "--limit", "2", "--format", "ndjson"])?;
        ensure!(rows.len() == 2, "{asked}: {rows:#?}");
        ensure!(rows.iter().all(|row| row["iot_sensor_id"] == th1.as_str()), "{asked}: {rows:#?}");
        ensure!(rows.iter().all(|row| row["sensor_name"] == "boiler north"), "{asked}: {rows:#?}");
    }
    let shown = lab.json(&["-q", "sensors", "show", "boiler north", "--format", "json"])?;
    let hall = shown.as_array().and_then(|all| all.iter().find(|row| row["location"] == "hall"));
    let hall = hall.context("the sensor in the hall")?;
    ensure!(hall["message_name"] == "th-1" && hall["sensor_name"] == "boiler north", "{shown}");
    ensure!(hall["tags"] == json!({"room": "A12", "floor": "2", "unit.temperature": "°C"}), "{shown}");
    let alerts = lab.lines(&["-q", "alerts", "--sensor", "th-2", "--format", "ndjson"])?;
    lab.ok("-q sensors rename th-2 cellar")?;
    let renamed = lab.lines(&["-q", "alerts", "--sensor", "cellar", "--format", "ndjson"])?;
    ensure!(!alerts.is_empty() && alerts.len() == renamed.len(), "{renamed:#?}");
    ensure!(renamed.iter().all(|alert| alert["sensor_name"] == "cellar"), "{renamed:#?}");
    // A name is one sensor's.
    for taken in ["boiler north", "th-1", "cellar"] {
        let uuid = Uuid::from_u128(7).to_string();
        let error = lab.fails(2, &["-q", "sensors", "rename", &uuid, taken])?;
        contains(&error, &["is called", "give another name"])?;
    }
    lab.ok("-q sensors tag th-1 floor=")?;
    lab.ok(&["-q", "sensors", "rename", "boiler north", "--clear"])?;
    let shown = lab.json("-q sensors show th-1 --format json")?;
    ensure!(shown[0]["sensor_name"] == "th-1" && shown[1]["sensor_name"] == "th-1", "{shown}");
    ensure!(!shown.to_string().contains("floor") && shown.to_string().contains("A12"), "{shown}");
    let error = lab.fails(1, &["-q", "query", "--sensor", "boiler north"])?;
    contains(&error, &["no sensor is called boiler north"])
}

fn a_file_of_tags_is_set_whole_or_not_at_all() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("tagged", folder.path())?;
    let file = folder.path().join("tags.csv");
    let path = file.display().to_string();
    let tags = |sensor: &str| -> anyhow::Result<Value> {
        Ok(lab.json(&["-q", "sensors", "show", sensor, "--format", "json"])?[0]["tags"].clone())
    };
    std::fs::write(&file, "sensor,room\nth-1,A12\nnobody,A13\nth-2\n")?;
    let error = lab.fails(2, &["-q", "sensors", "tag", "--from", &path])?;
    contains(&error, &["line 4: 1 cells and not 2", "nothing was changed"])?;
    std::fs::write(&file, "sensor,room\nth-1,A12\nnobody,A13\n")?;
    let error = lab.fails(2, &["-q", "sensors", "tag", "--from", &path])?;
    contains(&error, &["line 3: no sensor is called nobody", "nothing was changed"])?;
    ensure!(tags("th-1")?.is_null());
    let text = "sensor,location,device_type,room,note\n,hall,thermostat,B1,\"a,\"\"b\"\"\"\nth-1,,,A12,\n";
    std::fs::write(&file, text)?;
    let planned = lab.lines(&["-q", "sensors", "tag", "--from", &path, "--dry-run", "--format", "ndjson"])?;
    ensure!(planned.len() == 4 && tags("th-1")?.is_null(), "{planned:#?}");
    lab.ok(&["-q", "sensors", "tag", "--from", &path])?;
    ensure!(tags("th-1")? == json!({"room": "A12", "note": "a,\"b\""}), "{}", tags("th-1")?);
    ensure!(tags("th-2")? == json!({"room": "B1", "note": "a,\"b\""}), "{}", tags("th-2")?);
    ensure!(tags(&Uuid::from_u128(7).to_string())?.is_null());
    let planned = lab.lines(&["-q", "sensors", "tag", "--from", &path, "--dry-run", "--format", "ndjson"])?;
    ensure!(planned.is_empty(), "a second time changes nothing: {planned:#?}");
    Ok(())
}

/// (count, lowest, highest) of the raw rows of some sensors, by another driver.
fn scan(lab: &Lab, sensors: &[Uuid]) -> anyhow::Result<(u64, f64, f64)> {
    let rows: Vec<(Uuid, Option<f32>)> =
        lab.witness("SELECT iot_sensor_id, temperature FROM {ks}.iot_sensor_metrics")?;
    let values: Vec<f64> = rows
        .into_iter()
        .filter(|(sensor, _)| sensors.contains(sensor))
        .filter_map(|(_, value)| value)
        .map(f64::from)
        .collect();
    let of = |better: fn(f64, f64) -> f64| values.iter().copied().reduce(better).context("a value");
    Ok((values.len() as u64, of(f64::min)?, of(f64::max)?))
}

fn answers_by_tags_are_those_of_a_full_scan_from_rows_and_from_rollups() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("by_tags")?;
    let name = |number: u32| format!("s-{number}");
    lab.send((0..240).flat_map(|minute| {
        (0..9).map(move |number| {
            let site = if number < 6 { "hall" } else { "yard" };
            reading(
                site,
                &format!("s-{number}"),
                minute,
                f64::from(number) * 10.0 + (minute % 8) as f64 * 0.25,
            )
        })
    }))?;
    lab.ok(&["-q", "ingest", "--until-end", "--mapping", &mapping(folder.path())?])?;
    // Rooms across locations; two sensors have none.
    let rooms = [(0, "A"), (1, "B"), (2, "A"), (3, "C"), (6, "A"), (7, "B"), (8, "B")];
    let csv = rooms.map(|(number, room)| format!("s-{number},{room},{}\n", number % 2)).concat();
    let file = folder.path().join("tags.csv");
    std::fs::write(&file, format!("sensor,room,floor\n{csv}"))?;
    lab.ok(&["-q", "sensors", "tag", "--from", &file.display().to_string()])?;
    let of = |is_meant: &dyn Fn(u32, &str) -> bool| -> Vec<Uuid> {
        rooms
            .iter()
            .filter(|(number, room)| is_meant(*number, room))
            .map(|(number, _)| id(&name(*number)))
            .collect()
    };
    for source in ["rows", "rollups"] {
        let stats =
            lab.lines("-q stats --metric temperature --by tag:room --agg count,min,max --format ndjson")?;
        ensure!(stats.len() == 4, "{source}: {stats:#?}");
        for (line, room) in stats.iter().zip(["A", "B", "C"]) {
            let (count, low, high) = scan(&lab, &of(&|_, other| other == room))?;
            ensure!(line["tag:room"] == room && line["count"] == count, "{source}: {line}");
            ensure!(line["min"] == low && line["max"] == high, "{source}: {line}");
        }
        let untagged = scan(&lab, &[id("s-4"), id("s-5")])?;
        ensure!(
            stats[3].get("tag:room").is_none() && stats[3]["count"] == untagged.0,
            "{source}: {stats:#?}"
        );
        for (flags, sensors) in [
            ("--tag room=A", of(&|_, room| room == "A")),
            ("--tag room=A --tag room=C", of(&|_, room| room == "A" || room == "C")),
            ("--tag room=B --tag floor=1", of(&|number, room| room == "B" && number % 2 == 1)),
        ] {
            let (count, low, high) = scan(&lab, &sensors)?;
            let stats = lab.lines(&*format!(
                "-q stats --metric temperature --agg count,min,max {flags} --format ndjson"
            ))?;
            ensure!(
                stats.len() == 1 && stats[0]["count"] == count,
                "{source} {flags}: {stats:#?} and not {count}"
            );
            ensure!(stats[0]["min"] == low && stats[0]["max"] == high, "{source} {flags}: {stats:#?}");
            let hours = lab.lines(&*format!(
                "-q stats --metric temperature --by hour --agg count {flags} --format ndjson"
            ))?;
            let sum: u64 = hours.iter().filter_map(|line| line["count"].as_u64()).sum();
            ensure!(hours.len() == 4 && sum == count, "{source} {flags}: {hours:#?}");
            let highest =
                lab.lines(&*format!("-q extremes --metric temperature --highest {flags} --format ndjson"))?;
            ensure!(
                highest.len() == sensors.len() && highest[0]["value"] == high,
                "{source} {flags}: {highest:#?}"
            );
            let rows = lab.lines(&*format!("-q query {flags} --format ndjson"))?;
            ensure!(rows.len() as u64 == count, "{source} {flags}: {}", rows.len());
            let is_meant =
                |row: &Value| sensors.iter().any(|sensor| row["iot_sensor_id"] == sensor.to_string());
            ensure!(rows.iter().all(is_meant), "{source} {flags}");
            for question in ["silent --longer-than 1m", "query --latest"] {
                let lines = lab.lines(&*format!("-q {question} {flags} --format ndjson"))?;
                ensure!(
                    lines.len() == sensors.len() && lines.iter().all(is_meant),
                    "{question} {flags}: {lines:#?}"
                );
            }
        }
        age_marks(&lab)?;
        roll(&lab, &[])?;
    }
    let error = lab.fails(1, "-q stats --metric temperature --tag room=Z")?;
    contains(&error, &["no sensor has room=Z"])
}

fn tags_of_messages_follow_them_and_peoples_tags_count_first() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("mapped_tags")?;
    let path = folder.path().join("mapping.toml");
    let tags = "[source.tags]\nroom = \"value.room\"\nmaker = { constant = \"acme\" }\n";
    std::fs::write(&path, format!("{MAPPING}{tags}"))?;
    let path = path.display().to_string();
    let send = |minute: i64, room: &str| -> anyhow::Result<()> {
        let message =
            json!({"site": "hall", "id": "th-1", "at": START + minute * MINUTE, "t": 20.5, "room": room});
        lab.send([("th-1".to_owned(), message.to_string().into_bytes())])?;
        lab.ok(&["-q", "ingest", "--until-end", "--mapping", &path]).map(drop)
    };
    let shown = || -> anyhow::Result<Value> {
        Ok(lab.json("-q sensors show th-1 --format json")?[0]["tags"].clone())
    };
    send(0, "A")?;
    ensure!(shown()? == json!({"room": "A", "maker": "acme"}), "{}", shown()?);
    send(1, "B")?;
    ensure!(shown()? == json!({"room": "B", "maker": "acme"}), "{}", shown()?);
    lab.ok("-q sensors tag th-1 room=C")?;
    send(2, "D")?;
    ensure!(shown()? == json!({"room": "C", "maker": "acme"}), "{}", shown()?);
    ensure!(lab.lines("-q query --tag room=C --tag maker=acme --format ndjson")?.len() == 3);
    lab.ok("-q sensors tag th-1 room=")?;
    ensure!(shown()? == json!({"room": "D", "maker": "acme"}), "{}", shown()?);
    Ok(())
}

fn files_name_sensors_and_are_of_those_with_a_tag() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("exported", folder.path())?;
    lab.ok("-q sensors rename th-2 'cellar, \"north\"'")?;
    lab.ok("-q sensors tag th-1 room=A12")?;
    lab.ok(&["-q", "sensors", "tag", &Uuid::from_u128(7).to_string(), "room=A12"])?;
    let without = (Uuid::from_u128(7).to_string(), None);
    let th1 = (id("th-1").to_string(), Some("th-1".to_owned()));
    let th2 = (id("th-2").to_string(), Some("cellar, \"north\"".to_owned()));
    let mut tagged = vec![th1.clone(), without.clone()];
    tagged.sort();
    for (selection, rows, expected) in [
        ("", 270, {
            let mut all = vec![th1.clone(), th2.clone(), without.clone()];
            all.sort();
            all
        }),
        ("--sensor th-1", 90, vec![th1.clone()]),
        ("--sensor 'cellar, \"north\"'", 90, vec![th2]),
        ("--tag room=A12", 180, tagged),
        ("--tag room=A12 --location hall", 90, vec![th1]),
    ] {
        let lines = lab.lines(format!("-q export --format ndjson --output - {selection}").as_str())?;
        ensure!(lines.len() == rows && sensors(&lines) == expected, "{selection}: {:?}", sensors(&lines));
        let csv = lab.ok(format!("-q export --format csv --output - {selection}").as_str())?;
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let heading = reader.headers()?.clone();
        let column = |name: &str| heading.iter().position(|it| it == name).context("a column");
        let (sensor, name) = (column("iot_sensor_id")?, column("sensor_name")?);
        let mut found = Vec::new();
        for record in reader.records() {
            let record = record?;
            let called = Some(record[name].to_owned()).filter(|name| !name.is_empty());
            found.push((record[sensor].to_owned(), called));
        }
        ensure!(found.len() == rows, "{selection}: {} rows", found.len());
        found.sort();
        found.dedup();
        ensure!(found == expected, "{selection}: {found:?}");
    }
    let lake = folder.path().join("lake");
    let lake = lake.display().to_string();
    let report = lab.json(&["-q", "export", "--tag", "room=A12", "--output", &lake, "--report", "json"])?;
    ensure!(report["rows"] == 180, "{report}");
    let error = lab.fails(2, &["-q", "export", "--output", &lake])?;
    contains(&error, &["--tag was room=A12"])?;
    // What is read again elsewhere has its names.
    let other = Lab::new("exported_again")?;
    other.ok(&["-q", "import", &lake, "--direct"])?;
    let names = sensors(&other.lines("-q sensors --format ndjson")?);
    ensure!(names.iter().any(|(_, name)| name.as_deref() == Some("th-1")), "{names:?}");
    let error = lab.fails(1, "-q export --tag room=Z --output -")?;
    contains(&error, &["room=Z"])
}

fn an_audit_names_the_sensor_whose_reading_is_lost() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("lost", folder.path())?;
    let bucket: Vec<(scylla::value::CqlTimestamp,)> = lab.witness(&format!(
        "SELECT bucket FROM {{ks}}.iot_sensor_metrics WHERE iot_sensor_id = {} LIMIT 1 ALLOW FILTERING",
        id("th-2")
    ))?;
    let bucket = bucket.first().context("a row")?.0.0;
    lab.cql(&format!(
        "DELETE FROM {{ks}}.iot_sensor_metrics WHERE location = 'hall' AND device_type = 'thermostat' AND bucket = {bucket} \
         AND iot_sensor_id = {}",
        id("th-2")
    ))?;
    let mapping = mapping(folder.path())?;
    let audit = ["-q", "audit", "--mapping", &mapping, "--format"];
    let found = lab.run(&[&audit[..], &["json"]].concat())?;
    let report: Value = serde_json::from_str(&found.stdout)?;
    ensure!(found.code == Some(1) && report["examples"][0]["sensor_name"] == "th-2", "{report:#}");
    let table = lab.run(&[&audit[..], &["table"]].concat())?.stdout;
    ensure!(table.contains("th-2") && !table.contains(&id("th-2").to_string()), "{table}");
    let csv = lab.run(&[&audit[..], &["csv"]].concat())?.stdout;
    ensure!(csv.contains(&format!("{},th-2,", id("th-2"))), "{csv}");
    Ok(())
}

fn dead_letters_and_silences_name_their_sensor() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = named("refused", folder.path())?;
    let mapping = mapping(folder.path())?;
    let bad = |site: &str, sensor: &str| {
        let message = json!({"site": site, "id": sensor, "at": "soon", "t": 1});
        (sensor.to_owned(), message.to_string().into_bytes())
    };
    lab.send([bad("hall", "th-1"), bad("hall", "th-2"), bad("hall", "th-2"), bad("hall", "th-9")])?;
    lab.ok(&["-q", "ingest", "--until-end", "--mapping", &mapping])?;
    lab.ok("-q sensors rename th-2 boiler-north")?;
    let with = |words: &str| {
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.extend(["--mapping".to_owned(), mapping.clone()]);
        words
    };
    let listed = lab.lines(&with("-q dead-letters list --format ndjson"))?;
    let mut found: Vec<_> = listed.iter().filter_map(|line| line["sensor_name"].as_str()).collect();
    found.sort_unstable();
    // One that was never stored has the name of its message.
    ensure!(found == ["boiler-north", "boiler-north", "th-1", "th-9"], "{listed:#?}");
    let summary = lab.lines(&with("-q dead-letters summary --format ndjson"))?;
    ensure!(summary[0]["letters"] == 4 && summary[0]["sensors"] == 3, "{summary:#?}");
    let table = lab.ok(&with("-q dead-letters list"))?;
    ensure!(table.contains("boiler-north") && !table.contains(&id("th-2").to_string()), "{table}");
    let letter = listed.iter().find(|line| line["sensor_name"] == "boiler-north").context("a letter")?;
    let shown =
        lab.ok(&with(&format!("-q dead-letters show {}", letter["id"].as_str().unwrap_or_default())))?;
    contains(&shown, &["sensor", "boiler-north"])?;
    // A silence is listed by the sensor's name.
    lab.ok("-q alerts silence --sensor boiler-north --for 1h")?;
    let silences = lab.lines("-q alerts silence --format ndjson")?;
    ensure!(silences[0]["matches"] == "sensor=boiler-north", "{silences:#?}");
    Ok(())
}

fn a_ledger_names_its_sensors_and_so_does_an_audit_of_what_never_was_stored() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("ledger_names")?;
    let (file, ledger) = (folder.path().join("x.csv"), folder.path().join("ledger"));
    std::fs::write(&file, "iot_sensor_id,recorded_timestamp,temperature\npump 7,2026-11-01T00:00:00Z,1\n")?;
    lab.ok(&[
        "-q",
        "simulate",
        "--replay",
        &file.display().to_string(),
        "--set",
        "location=l,device_type=d",
        "--ledger",
        &ledger.display().to_string(),
    ])?;
    let written = std::fs::read_to_string(&ledger)?;
    ensure!(written.contains("\"sensor_name\":\"pump 7\""), "{written}");
    lab.ingest()?;
    // Of what only the ledger knows, nothing else says the name.
    let lost = format!(
        "{}{{\"sensor\":\"{}\",\"timestamp\":\"2026-11-01T00:01:00.000Z\",\"partition\":0,\"offset\":999,\"sensor_name\":\"pump 8\"}}\n",
        written,
        id("pump 8")
    );
    std::fs::write(&ledger, lost)?;
    let audited = lab.run(&["-q", "audit", "--format", "json", "--ledger", &ledger.display().to_string()])?;
    let report: Value = serde_json::from_str(&audited.stdout)?;
    ensure!(audited.code == Some(1) && report["examples"][0]["sensor_name"] == "pump 8", "{report:#}");
    Ok(())
}

fn units_of_tags_stand_beside_the_values() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::new("units")?;
    let text = MAPPING.replace("temperature = \"value.t\"", "flow = \"value.t\"");
    let mapping = folder.path().join("flow.toml");
    std::fs::write(&mapping, text)?;
    lab.send((0..120).flat_map(|minute| {
        [("hall", "f-1", 20.0), ("yard", "f-2", 30.0)]
            .map(|(site, sensor, base)| reading(site, sensor, minute, base + (minute % 7) as f64))
    }))?;
    lab.ok(&["-q", "ingest", "--until-end", "--mapping", &mapping.display().to_string()])?;
    lab.ok("-q sensors tag f-1 unit.flow=l/min")?;
    // The unit of one sensor is not that of the other.
    for verb in
        ["extremes --metric flow", "stats --metric flow --by sensor", "anomalies --metric flow --above 25"]
    {
        let table = lab.ok(format!("-q {verb} --format table").as_str())?;
        ensure!(!table.contains("(l/min)"), "{verb}: {table}");
        let lines = lab.lines(format!("-q {verb} --format ndjson").as_str())?;
        let of = |name: &str| lines.iter().filter(|line| line["sensor_name"] == name).collect::<Vec<_>>();
        ensure!(of("f-1").iter().all(|line| line["unit"] == "l/min"), "{verb}: {lines:#?}");
        ensure!(
            !of("f-2").is_empty() && of("f-2").iter().all(|line| line["unit"].is_null()),
            "{verb}: {lines:#?}"
        );
    }
    let all = lab.lines("-q stats --metric flow --format ndjson")?;
    ensure!(all.len() == 1 && all[0]["unit"].is_null(), "{all:#?}");
    let query = "-q query --sensor f-2 --columns recorded_timestamp,flow --limit 2";
    ensure!(!lab.ok(query)?.contains("l/min"));
    contains(&lab.ok(&query.replace("f-2", "f-1"))?, &["flow (l/min)"])?;
    lab.ok("-q sensors tag f-2 unit.flow=l/min")?;
    let forecast =
        "forecast --metric flow --sensor f-1 --step 1m --season 7m --horizon 7m --at 2026-11-01T02:00:00Z";
    for verb in [
        "extremes --metric flow",
        "stats --metric flow --by sensor",
        "anomalies --metric flow --above 25",
        forecast,
    ] {
        let table = lab.run(format!("{verb} --format table").as_str())?;
        ensure!(table.stdout.contains("(l/min)"), "{verb}: {table:#?}");
        ensure!(!table.stderr.contains("different units"), "{verb}: {table:#?}");
    }
    for verb in
        ["extremes --metric flow", "stats --metric flow --by sensor", "anomalies --metric flow --above 25"]
    {
        let lines = lab.lines(format!("-q {verb} --format ndjson").as_str())?;
        ensure!(!lines.is_empty() && lines.iter().all(|line| line["unit"] == "l/min"), "{verb}: {lines:#?}");
    }
    // Of another unit: no heading can say both.
    lab.ok("-q sensors tag f-2 unit.flow=m3/h")?;
    let mixed = lab.run("extremes --metric flow")?;
    contains(&mixed.stderr, &["different units (l/min, m3/h)"])?;
    ensure!(!mixed.stdout.contains("(l/min)") && mixed.stdout.contains("m3/h"), "{mixed:#?}");
    let one = lab.ok("-q extremes --metric flow --location hall")?;
    contains(&one, &["flow (l/min)"])
}
