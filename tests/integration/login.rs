//! Tokens, sessions and TLS of everything that is served by HTTP, asked by curl.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::certificates::Certificates;
use crate::support::{Lab, contains, eventually, message};

crate::trials!(
    a_token_is_made_listed_and_removed_by_commands,
    an_address_of_other_machines_needs_tls_and_a_login,
    whoever_has_a_token_is_answered_and_nobody_else,
    a_browser_signs_in_and_out_and_other_sites_change_nothing,
    wrong_tokens_are_limited_and_counted,
    a_new_certificate_is_used_without_a_restart,
    metrics_need_a_token_and_probes_do_not,
    alerts_are_acknowledged_by_an_operator,
);

const PATIENCE: Duration = Duration::from_secs(30);
const HERE: &str = "127.0.42.1";

/// A listener that needs a token, over TLS.
struct Place {
    lab: Lab,
    folder: tempfile::TempDir,
    certificates: Certificates,
    viewer: String,
    operator: String,
}

/// An answer of curl.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

/// A command that listens; ends with the test.
struct Listening {
    child: Child,
    url: String,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    fn new(name: &str) -> anyhow::Result<Self> {
        Self::of(Lab::new(name)?)
    }

    fn of(mut lab: Lab) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let certificates = Certificates::make(&folder.path().join("pki"), HERE)?;
        let tokens = folder.path().join("tokens");
        lab.set("IOTCTL_HTTP_TOKENS_FILE", &tokens.to_string_lossy());
        let token = |name: &str| -> anyhow::Result<String> {
            let role = if name == "ada" { "operator" } else { "viewer" };
            Ok(lab.ok(&["-q", "token", "add", name, "--role", role])?.trim().to_owned())
        };
        let (operator, viewer) = (token("ada")?, token("bob")?);
        for (setting, from, name) in [
            ("CERT", &certificates.server.certificate, "cert.pem"),
            ("KEY", &certificates.server.key, "key.pem"),
        ] {
            let path = folder.path().join(name);
            std::fs::copy(from, &path)?;
            lab.set(&format!("IOTCTL_HTTP_{setting}_FILE"), &path.to_string_lossy());
        }
        Ok(Self { lab, folder, certificates, viewer, operator })
    }

    fn listen(&self, arguments: &[&str]) -> anyhow::Result<Listening> {
        let mut child = self.lab.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("its stderr")?).lines();
        let mut listening = Listening { child, url: String::new() };
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(" on http"))
            .context("it does not say where it listens")?;
        let url =
            line.split(" on ").nth(1).and_then(|rest| rest.split([',', ' ']).next()).context(line.clone())?;
        listening.url = url.trim_end_matches("/metrics").to_owned();
        // Nobody else reads it, and it must not fill.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(listening)
    }

    fn dashboard(&self) -> anyhow::Result<Listening> {
        let listening = self.listen(&["dashboard", "--addr", &format!("{HERE}:0")])?;
        ensure!(listening.url.starts_with("https://"), "{}", listening.url);
        Ok(listening)
    }

    fn curl(&self, url: &str, more: &[&str]) -> anyhow::Result<Answer> {
        curl(&self.certificates.ca, url, more)
    }

    fn get_as(&self, token: &str, url: &str) -> anyhow::Result<Answer> {
        self.curl(url, &["-H", &format!("Authorization: Bearer {token}")])
    }
}

/// Fails where there is no answer, such as for an authority that did not sign the certificate.
fn curl(authority: &Path, url: &str, more: &[&str]) -> anyhow::Result<Answer> {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--include",
        "--max-time",
        "30",
        "--noproxy",
        "*",
        "--path-as-is",
    ]);
    command.arg("--cacert").arg(authority).args(more).arg(url);
    let output = command.output().context("curl (Debian: apt-get install curl)")?;
    ensure!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{url}: {text:?}"))?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

fn expect(answer: &Answer, status: u16, parts: &[&str]) -> anyhow::Result<()> {
    ensure!(answer.status == status, "{status} is expected: {answer:#?}");
    contains(&format!("{}\n{}", answer.head, answer.body), parts)
}

fn a_token_is_made_listed_and_removed_by_commands() -> anyhow::Result<()> {
    let mut lab = Lab::bare("login_tokens")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tokens");
    let path: String = file.to_string_lossy().into_owned();
    let error = lab.fails(2, &["token", "add", "ada", "--role", "viewer"])?;
    contains(&error, &["--file", "http.tokens_file"])?;
    lab.set("IOTCTL_HTTP_TOKENS_FILE", &path);
    contains(&lab.fails(2, &["token", "list"])?, &["does not exist", "token add"])?;
    let token = lab.ok(&["-q", "token", "add", "ada", "--role", "operator"])?;
    ensure!(token.trim().len() > 45 && token.lines().count() == 1, "{token}");
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains("ada operator sha256:") && !text.contains(token.trim()), "{text}");
    lab.ok(&["-q", "token", "add", "bob", "--role", "viewer"])?;
    let listed = lab.lines(&["-q", "token", "list", "--format", "ndjson"])?;
    ensure!(
        listed
            == [
                serde_json::json!({"name": "ada", "role": "operator"}),
                serde_json::json!({"name": "bob", "role": "viewer"})
            ],
        "{listed:?}"
    );
    contains(&lab.fails(2, &["-q", "token", "add", "bob", "--role", "viewer"])?, &["already"])?;
    contains(&lab.fails(2, &["-q", "token", "add", "a b", "--role", "viewer"])?, &["name"])?;
    lab.ok(&["-q", "token", "remove", "ada", "--file", &path])?;
    ensure!(lab.lines(&["-q", "token", "list", "--format", "ndjson"])?.len() == 1);
    contains(&lab.fails(2, &["-q", "token", "remove", "ada"])?, &["no token called"])?;
    Ok(())
}

fn an_address_of_other_machines_needs_tls_and_a_login() -> anyhow::Result<()> {
    let Place { mut lab, folder, .. } = Place::of(Lab::bare("login_public")?)?;
    let verbs: [&[&str]; 3] = [
        &["dashboard", "--addr", "0.0.0.0:0"],
        &["monitor", "--metrics-addr", "0.0.0.0:0"],
        &["bridge", "mqtt", "--broker", "mqtt://127.0.0.1:1", "--topic", "a/#", "--metrics-addr", "[::]:0"],
    ];
    lab.unset("IOTCTL_HTTP_TOKENS_FILE");
    for verb in verbs {
        contains(&lab.fails(2, verb)?, &["needs a login", "http.tokens_file", "--insecure"])?;
    }
    lab.unset("IOTCTL_HTTP_CERT_FILE");
    for verb in verbs {
        let error = lab.fails(2, verb)?;
        ensure!(
            error.contains("http.cert_file") && error.contains("http.key_file"),
            "half of a pair: {error}"
        );
    }
    lab.unset("IOTCTL_HTTP_KEY_FILE");
    for verb in verbs {
        contains(&lab.fails(2, verb)?, &["needs TLS and a login", "docs/security.md", "--insecure"])?;
    }
    // What is configured and cannot be used is refused on any address.
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "ada viewer secret\n")?;
    lab.set("IOTCTL_HTTP_TOKENS_FILE", &tokens.to_string_lossy());
    let error = lab.fails(2, &["dashboard", "--addr", "127.0.42.1:0"])?;
    contains(&error, &["http.tokens_file", "line 1", "token add"])?;
    ensure!(!error.contains("secret"), "{error}");
    Ok(())
}

fn whoever_has_a_token_is_answered_and_nobody_else() -> anyhow::Result<()> {
    let place = Place::new("login_tokens_http")?;
    let dashboard = place.dashboard()?;
    let url = |path: &str| format!("{}{path}", dashboard.url);
    for path in [
        "/",
        "/api/status",
        "/api/openapi.json",
        "/api/events",
        "/app.js",
        "/metrics",
        "//login",
        "/login/../api/status",
    ] {
        expect(
            &place.curl(&url(path), &[])?,
            401,
            &["www-authenticate: bearer realm=", "content-security-policy"],
        )?;
    }
    for token in [&place.viewer, &place.operator] {
        expect(&place.get_as(token, &url("/api/status"))?, 200, &["application/json"])?;
        expect(&place.get_as(token, &url("/"))?, 200, &["text/html"])?;
    }
    let long = "x".repeat(20_000);
    let twice = [format!("Authorization: Bearer {}", place.viewer), "Authorization: Bearer x".to_owned()];
    for headers in [
        vec![format!("Authorization: Basic {}", place.viewer)],
        vec![format!("Authorization: {}", place.viewer)],
        vec![format!("Authorization: Bearer {}x", place.viewer)],
        vec![format!("Authorization: Bearer {long}")],
        vec!["Authorization: Bearer ".to_owned()],
        vec!["Authorization: Bearer \u{e9}\u{1F600}".to_owned()],
        vec![format!("Cookie: iotctl={}", place.viewer)],
        twice.to_vec(),
    ] {
        let options: Vec<&str> = headers.iter().flat_map(|header| ["-H", header]).collect();
        let answer = place.curl(&url("/api/status"), &options)?;
        ensure!(answer.status == 401, "{headers:?}: {answer:#?}");
        ensure!(!answer.body.contains(&place.viewer), "{answer:#?}");
    }
    // Who cannot do anything is not sent a page, and who has a browser is sent to sign in.
    expect(&place.curl(&url("/"), &["-H", "Accept: text/html"])?, 303, &["location: /login"])?;
    expect(&place.curl(&url("/login"), &[])?, 200, &["text/html", "content-security-policy"])?;
    expect(&place.curl(&url("/livez"), &[])?, 200, &["ok"])?;
    let id = uuid::Uuid::nil();
    let post = |token: &str| -> anyhow::Result<Answer> {
        let bearer = format!("Authorization: Bearer {token}");
        place.curl(&url(&format!("/api/alerts/{id}/acknowledgement")), &["-X", "POST", "-H", &bearer])
    };
    expect(&post(&place.viewer)?, 403, &["operator"])?;
    expect(&post(&place.operator)?, 404, &["no alert with this id fires"])?;
    // A removed token is no longer one, at once.
    place.lab.ok(&["-q", "token", "remove", "bob"])?;
    expect(&place.get_as(&place.viewer, &url("/api/status"))?, 401, &["invalid_token"])?;
    expect(&place.get_as(&place.operator, &url("/api/status"))?, 200, &[])?;
    // A client without TLS is told so.
    let plain = curl(&place.certificates.ca, &dashboard.url.replace("https", "http"), &[])?;
    expect(&plain, 400, &["https://"])
}

fn a_browser_signs_in_and_out_and_other_sites_change_nothing() -> anyhow::Result<()> {
    let place = Place::new("login_browser")?;
    let dashboard = place.dashboard()?;
    let url = |path: &str| format!("{}{path}", dashboard.url);
    let jar = place.folder.path().join("jar").to_string_lossy().into_owned();
    let json = "Content-Type: application/json";
    let body = format!(r#"{{"token":"{}"}}"#, place.operator);
    let session = url("/api/session");
    expect(&place.curl(&session, &[])?, 401, &[])?;
    // A form of another site: of its type, or its origin.
    expect(&place.curl(&session, &["-d", &body])?, 415, &[])?;
    let evil = "Origin: https://evil.example";
    expect(&place.curl(&session, &["-d", &body, "-H", json, "-H", evil])?, 403, &[])?;
    expect(&place.curl(&session, &["-d", r#"{"token":"x"}"#, "-H", json])?, 401, &[])?;
    let signed =
        place.curl(&session, &["-c", &jar, "-d", &body, "-H", json, "-H", "Sec-Fetch-Site: same-origin"])?;
    expect(&signed, 200, &["__host-iotctl-", "; httponly", "; samesite=strict", "; secure", "; path=/"])?;
    ensure!(!signed.head.contains(&place.operator.to_ascii_lowercase()), "the cookie is not the token");
    let who: Value = serde_json::from_str(&signed.body)?;
    ensure!(who["name"] == "ada" && who["role"] == "operator", "{who}");
    let csrf = format!("X-Iotctl-Csrf: {}", who["csrf"].as_str().context("csrf")?);
    expect(&place.curl(&url("/"), &["-b", &jar])?, 200, &["text/html"])?;
    expect(&place.curl(&url("/api/status"), &["-b", &jar])?, 200, &[])?;
    // What changes something needs the session's secret too, and comes from this site.
    let ack = url(&format!("/api/alerts/{}/acknowledgement", uuid::Uuid::nil()));
    expect(&place.curl(&ack, &["-b", &jar, "-X", "POST"])?, 403, &["csrf"])?;
    expect(&place.curl(&ack, &["-b", &jar, "-X", "POST", "-H", "X-Iotctl-Csrf: x"])?, 403, &["csrf"])?;
    for site in ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", evil] {
        expect(&place.curl(&ack, &["-b", &jar, "-X", "POST", "-H", &csrf, "-H", site])?, 403, &[])?;
    }
    expect(&place.curl(&ack, &["-b", &jar, "-X", "POST", "-H", &csrf])?, 404, &["no alert"])?;
    expect(&place.curl(&session, &["-b", &jar, "-X", "DELETE"])?, 403, &[])?;
    expect(&place.curl(&session, &["-b", &jar, "-X", "DELETE", "-H", &csrf])?, 204, &["max-age=0"])?;
    expect(&place.curl(&url("/api/status"), &["-b", &jar])?, 401, &[])?;
    Ok(())
}

fn wrong_tokens_are_limited_and_counted() -> anyhow::Result<()> {
    let place = Place::new("login_limited")?;
    let dashboard = place.dashboard()?;
    let url = format!("{}/api/status", dashboard.url);
    let mut last = place.get_as("guess", &url)?;
    // Those that come while it waits are too many, however slow this machine is: one more is allowed every 6 s.
    eventually("the address has to wait", PATIENCE, || {
        for _ in 0..12 {
            last = place.get_as("guess", &url)?;
            if last.status == 429 {
                return Ok(true);
            }
            ensure!(last.status == 401, "{last:#?}");
        }
        Ok(false)
    })?;
    expect(&last, 429, &["retry-after: ", "too many wrong tokens"])?;
    let mut counted = String::new();
    eventually("it is let in again", PATIENCE, || {
        let answer = place.get_as(&place.viewer, &format!("{}/metrics", dashboard.url))?;
        counted = answer.body;
        Ok(answer.status == 200)
    })?;
    let value = |result: &str| -> anyhow::Result<f64> {
        let name = format!("iotctl_http_login_attempts_total{{result=\"{result}\"}} ");
        let line =
            counted.lines().find_map(|line| line.strip_prefix(&name)).with_context(|| counted.clone())?;
        Ok(line.parse()?)
    };
    ensure!(value("refused")? >= 10.0 && value("limited")? >= 1.0 && value("accepted")? >= 1.0, "{counted}");
    Ok(())
}

fn a_new_certificate_is_used_without_a_restart() -> anyhow::Result<()> {
    let place = Place::new("login_renewed")?;
    let dashboard = place.dashboard()?;
    let url = format!("{}/livez", dashboard.url);
    let renewed = Certificates::make(&place.folder.path().join("renewed"), HERE)?;
    expect(&place.curl(&url, &[])?, 200, &["ok"])?;
    ensure!(curl(&renewed.ca, &url, &[]).is_err(), "another authority did not sign it");
    // The way of certbot and of Kubernetes: another file under the same name.
    let replace = |from: &PathBuf, name: &str| -> anyhow::Result<()> {
        let new = place.folder.path().join("new");
        std::fs::copy(from, &new)?;
        Ok(std::fs::rename(new, place.folder.path().join(name))?)
    };
    replace(&renewed.server.certificate, "cert.pem")?;
    // Without its key it is not used.
    expect(&place.curl(&url, &[])?, 200, &["ok"])?;
    replace(&renewed.server.key, "key.pem")?;
    expect(&curl(&renewed.ca, &url, &[])?, 200, &["ok"])?;
    ensure!(place.curl(&url, &[]).is_err(), "the old certificate is still shown");
    Ok(())
}

fn metrics_need_a_token_and_probes_do_not() -> anyhow::Result<()> {
    let mut place = Place::new("login_metrics")?;
    let monitor = place.listen(&["monitor", "--metrics-addr", &format!("{HERE}:0"), "--interval", "1s"])?;
    let url = |path: &str| format!("{}{path}", monitor.url);
    expect(&place.curl(&url("/metrics"), &[])?, 401, &["www-authenticate"])?;
    expect(&place.get_as(&place.viewer, &url("/metrics"))?, 200, &["iotctl_http_login_attempts_total"])?;
    eventually("it is ready", PATIENCE, || Ok(place.curl(&url("/readyz"), &[])?.status == 200))?;
    expect(&place.curl(&url("/healthz"), &[])?, 200, &["ok"])?;
    let address = monitor.url.trim_start_matches("https://");
    place.lab.ok(&["-q", "healthcheck", address])?;
    place.lab.ok(&["-q", "healthcheck", address, "--ready"])?;
    // Why it is not ready is for those who may look.
    place.lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", "127.0.42.250:9");
    place.lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", "127.0.42.250:9");
    let other = place;
    let monitor = other.listen(&["monitor", "--metrics-addr", &format!("{HERE}:0"), "--interval", "1s"])?;
    let url = format!("{}/readyz", monitor.url);
    let stranger = other.curl(&url, &[])?;
    expect(&stranger, 503, &["not ready"])?;
    ensure!(stranger.body == "not ready\n", "{stranger:#?}");
    let known = other.get_as(&other.viewer, &url)?;
    ensure!(known.status == 503 && known.body.starts_with("not ready: "), "{known:#?}");
    Ok(())
}

fn alerts_are_acknowledged_by_an_operator() -> anyhow::Result<()> {
    let place = Place::new("login_ack")?;
    let rules = place.folder.path().join("rules.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"hot\"\nmetric = \"temperature\"\nthreshold = { above = 30 }\n",
    )?;
    let now = chrono::Utc::now().timestamp_millis();
    let hot = |id: u128| message("plant-1", id, now - 20_000, r#","temperature":41"#);
    place.lab.send([hot(1), hot(2)])?;
    let rules = rules.to_string_lossy();
    place.lab.ok(&["-q", "ingest", "--until-end", "--detect", &rules, "--format", "json"])?;
    let dashboard = place.dashboard()?;
    let url = |path: &str| format!("{}{path}", dashboard.url);
    let mut alerts = Value::Null;
    eventually("the alerts are read", PATIENCE, || {
        alerts = serde_json::from_str(&place.get_as(&place.viewer, &url("/api/alerts"))?.body)?;
        Ok(alerts["firing_count"] == 2)
    })?;
    let id = alerts["firing"][0]["id"].as_str().context("an id")?;
    let path = url(&format!("/api/alerts/{id}/acknowledgement"));
    let bearer = format!("Authorization: Bearer {}", place.operator);
    let post = |body: &str| place.curl(&path, &["-X", "POST", "-H", &bearer, "-d", body]);
    expect(&post(r#"{"comment":1}"#)?, 400, &["comment"])?;
    expect(&post(&format!(r#"{{"comment":"{}"}}"#, "x".repeat(2_000)))?, 400, &["shorten it"])?;
    expect(&post(&"x".repeat(100_000))?, 413, &[])?;
    expect(&post(r#"{"comment":"on my way"}"#)?, 200, &["\"by\":\"ada\"", "on my way"])?;
    let find = |list: &Value| -> Option<Value> {
        list["firing"].as_array()?.iter().find(|alert| alert["id"] == id).cloned()
    };
    // The next answer has it, and only for this alert.
    let after: Value = serde_json::from_str(&place.get_as(&place.viewer, &url("/api/alerts"))?.body)?;
    let seen = find(&after).context("the alert")?;
    ensure!(seen["acknowledged"]["by"] == "ada" && seen["acknowledged"]["comment"] == "on my way", "{seen}");
    let others = after["firing"].as_array().context("firing")?;
    ensure!(others.iter().filter(|alert| alert.get("acknowledged").is_some()).count() == 1, "{after}");
    // So has another dashboard, and the command.
    let other = place.dashboard()?;
    let mut elsewhere = Value::Null;
    eventually("another dashboard reads it", PATIENCE, || {
        let answer = place.get_as(&place.viewer, &format!("{}/api/alerts", other.url))?;
        elsewhere = serde_json::from_str(&answer.body)?;
        Ok(find(&elsewhere).is_some_and(|alert| alert["acknowledged"]["by"] == "ada"))
    })?;
    let listed = place.lab.ok(&["-q", "alerts", "--firing", "--format", "ndjson"])?;
    contains(&listed, &["\"ada\""])
}
