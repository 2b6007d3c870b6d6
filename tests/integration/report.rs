//! `iotctl report`: its figures are those of the verbs, and names from outside stay text.

use anyhow::{Context as _, ensure};

use crate::support::{Lab, contains, message};

crate::trials!(
    the_page_has_the_figures_of_the_verbs_and_loads_nothing,
    a_report_is_not_overwritten_by_accident
);

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A midnight (UTC), so that two days from it are over.
fn start() -> i64 {
    iotctl::time::day_of(iotctl::time::now()) - 3 * DAY
}

/// Of the day so many days later, as flags take it and the page shows it.
fn date(days: i64) -> String {
    iotctl::time::display(start() + days * DAY)[..10].to_owned()
}

fn lab(name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::new(name)?;
    let start = start();
    lab.send((0..2 * 96).flat_map(|step| {
        [1_u128, 2].map(|sensor| {
            let temperature = 20.0 + f64::from((step * 7 + sensor as i32) % 13) / 4.0;
            let name =
                format!(r#","sensor_name":"<script>alert({sensor})</script>","temperature":{temperature}"#);
            message("plant-1", sensor, start + i64::from(step) * 15 * MINUTE, &name)
        })
    }))?;
    lab.ingest()?;
    Ok(lab)
}

fn the_page_has_the_figures_of_the_verbs_and_loads_nothing() -> anyhow::Result<()> {
    let lab = lab("report_figures")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.html");
    let path = file.to_str().context("a path")?;
    let (from, to) = (date(0), date(2));
    let range = ["--from", from.as_str(), "--to", to.as_str()];
    lab.ok(&[&["report", "--location", "plant-1", "--output", path], &range[..]].concat())?;
    let page = std::fs::read_to_string(&file)?;
    let stats = ["-q", "stats", "--metric", "temperature", "--by", "device-type", "--format", "ndjson"];
    let lines = lab.lines(&[&stats[..], &range].concat())?;
    let [line] = lines.as_slice() else { anyhow::bail!("{lines:#?}") };
    ensure!(line["count"] == 384, "{line}");
    let extremes = ["-q", "extremes", "--metric", "temperature", "--top", "1", "--format", "ndjson"];
    let extremes = lab.lines(&[&extremes[..], &range].concat())?;
    let highest = extremes[0]["temperature"].as_f64().or_else(|| extremes[0]["value"].as_f64());
    let highest = highest.with_context(|| format!("{extremes:#?}"))?;
    contains(
        &page,
        &[
            "Report of plant-1",
            ">384<",
            &format!(">{highest}<"),
            // Both sensors are silent at the end of the range by now: the newest reading is 15 minutes older than that.
            &format!("{} 23:45", date(1)),
            "&lt;script&gt;alert(",
            "<svg",
        ],
    )?;
    ensure!(!page.contains("<script"), "a name became a script");
    // Charts name their own parts: url(#clip).
    let page = page.replace("url(#", "");
    for loads in ["src=", "url(", "@import", "<link", "<img"] {
        ensure!(!page.contains(loads), "the page loads something: {loads}");
    }
    Ok(())
}

fn a_report_is_not_overwritten_by_accident() -> anyhow::Result<()> {
    let lab = lab("report_file")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.html");
    let path = file.to_str().context("a path")?;
    std::fs::write(&file, "mine")?;
    let (from, to) = (date(0), date(1));
    let ask = ["report", "--from", &from, "--to", &to, "--output", path];
    contains(&lab.fails(2, &ask[..])?, &["already exists", "--force"])?;
    ensure!(std::fs::read_to_string(&file)? == "mine");
    lab.ok(&[&ask[..], &["--force"]].concat())?;
    ensure!(std::fs::read_to_string(&file)?.starts_with("<!doctype html>"));
    // A location that nobody has is a mistake and leaves no file.
    let nowhere = folder.path().join("nowhere.html");
    let nowhere = nowhere.to_str().context("a path")?;
    let wrong = lab.fails(1, &["report", "--location", "plnt-1", "--last", "7d", "--output", nowhere])?;
    contains(&wrong, &["did you mean location plant-1"])?;
    ensure!(!folder.path().join("nowhere.html").exists());
    Ok(())
}
