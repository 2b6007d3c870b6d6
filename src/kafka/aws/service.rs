//! Credentials from where AWS puts them for a program that runs there: a web identity (EKS with IAM roles for service accounts), the
//! endpoint of a container (ECS, EKS Pod Identity), the metadata service of an instance (EC2, IMDSv2). Shapes and variables are those
//! of AWS's documentation of its SDKs.

use std::path::Path;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde_json::Value;

use super::NoToken;
use super::credentials::{Credentials, Variables};
use crate::config::Secret;
use crate::http::client::Endpoint;
use crate::tls;

/// For all requests of one search.
const DEADLINE: Duration = Duration::from_secs(5);
/// Outside of AWS nobody answers at the address of the metadata service.
const NO_INSTANCE: Duration = Duration::from_secs(1);
const MAX_BODY: usize = 64 * 1024;
const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";

static TLS: tls::Settings = tls::Settings {
    ca: "SSL_CERT_FILE",
    certificate: "",
    key: "",
    off: "AWS_ENDPOINT_URL_STS to a URL with http://",
    name: "check AWS_ENDPOINT_URL_STS",
};

/// Asks the first of them that the environment names, or else the metadata service. Blocks for [`DEADLINE`] at most.
pub(super) fn find(region: &str, variable: Variables<'_>) -> Result<Credentials, NoToken> {
    let search = async { tokio::time::timeout(DEADLINE, search(region, variable)).await };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    // A thread of its own: the caller's may be one of a runtime, which must not run another.
    let found = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            runtime()
                .map_err(|error| error.to_string())?
                .block_on(search)
                .unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
        });
        asked.join().unwrap_or_else(|_| Err("the search broke off".to_owned()))
    });
    found.map_err(NoToken::Credentials)
}

async fn search(region: &str, variable: Variables<'_>) -> Result<Credentials, String> {
    if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        return web_identity(region, Path::new(&file), &role, variable).await;
    }
    let relative =
        variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    if let Some(url) = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        return container(&url, variable).await;
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err("neither the environment nor the shared files hold any".into());
    }
    let url = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
    instance(url.trim_end_matches('/')).await
}

/// ECS and EKS Pod Identity.
async fn container(url: &str, variable: Variables<'_>) -> Result<Credentials, String> {
    let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read(Path::new(&file))?),
        None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let token = token.as_deref().map(|token| (AUTHORIZATION, token));
    document(&ask(Method::GET, url, token, None).await?).map_err(|reason| format!("{url}: {reason}"))
}

/// EC2: a token for the metadata service (IMDSv2), the name of the role, its credentials.
async fn instance(url: &str) -> Result<Credentials, String> {
    const LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
    let roles = format!("{url}/latest/meta-data/iam/security-credentials/");
    let token_url = format!("{url}/latest/api/token");
    let token = tokio::time::timeout(NO_INSTANCE, ask(Method::PUT, &token_url, Some((LIFETIME, "60")), None));
    let nowhere = |reason: String| {
        format!(
            "neither the environment nor the shared files hold any, and this is not an instance with a role ({reason})"
        )
    };
    let token = token.await.unwrap_or_else(|_| Err(format!("{url} does not answer"))).map_err(nowhere)?;
    let token = Some((TOKEN, token.as_str()));
    let role = ask(Method::GET, &roles, token.clone(), None).await.map_err(nowhere)?;
    let role = role.lines().next().unwrap_or_default().trim();
    let url = format!("{roles}{role}");
    document(&ask(Method::GET, &url, token, None).await?).map_err(|reason| format!("{url}: {reason}"))
}

/// EKS with IAM roles for service accounts: the account's token is exchanged for credentials of the role.
async fn web_identity(
    region: &str,
    file: &Path,
    role: &str,
    variable: Variables<'_>,
) -> Result<Credentials, String> {
    let token = read(file)?;
    let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "iotctl".to_owned());
    let url = variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts.{region}.amazonaws.com{suffix}")
    });
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity".to_owned()),
        ("Version", "2011-06-15".to_owned()),
        ("RoleArn", role.to_owned()),
        ("RoleSessionName", session),
        ("WebIdentityToken", token),
    ];
    let answer = ask(Method::POST, &url, None, Some(super::sign::encoded(&fields))).await;
    let answer = answer.map_err(|reason| format!("the role {role} cannot be assumed: {reason}"))?;
    let field = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    credentials("SessionToken", field).map_err(|reason| format!("{url}: {reason}"))
}

/// The document of containers and instances.
fn document(text: &str) -> Result<Credentials, String> {
    let document: Value = serde_json::from_str(text).map_err(|_| "its answer is not JSON".to_owned())?;
    credentials("Token", |name| document[name].as_str().map(str::to_owned))
}

fn credentials(session: &str, field: impl Fn(&str) -> Option<String>) -> Result<Credentials, String> {
    let need = |name: &str| {
        let found = field(name).filter(|value| !value.is_empty());
        found.ok_or_else(|| format!("its answer holds no {name}"))
    };
    let expires = need("Expiration")?;
    let expires = chrono::DateTime::parse_from_rfc3339(&expires)
        .map_err(|_| format!("its answer holds no moment in Expiration: {expires:?}"))?;
    Ok(Credentials {
        access_key: need("AccessKeyId")?,
        secret_key: Secret::new(need("SecretAccessKey")?),
        session_token: Some(Secret::new(need(session)?)),
        expires: Some(SystemTime::from(expires)),
    })
}

fn read(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// The body of an answer.
async fn ask(
    method: Method,
    url: &str,
    header: Option<(HeaderName, &str)>,
    form: Option<String>,
) -> Result<String, String> {
    let mut endpoint = Endpoint::parse(url, MAX_BODY)?;
    if Endpoint::is_tls(url) {
        let config = tls::client_config_of_system(&TLS, None).map_err(|error| error.to_string())?;
        endpoint = endpoint.with_tls(config, &TLS);
    }
    let mut request = Request::builder().method(method).uri(endpoint.path.as_str());
    if let Some((name, value)) = header {
        let value =
            HeaderValue::from_str(value).map_err(|_| "the token for it is not one line".to_owned())?;
        request = request.header(name, value);
    }
    if form.is_some() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    let body = Full::new(Bytes::from(form.unwrap_or_default()));
    let request = request.body(body).map_err(|error| error.to_string())?;
    let (status, body) = endpoint.send(request).await.map_err(|reason| format!("{url}: {reason}"))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        let said: String = body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        return Err(format!("{url} answers {status}: {said}"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    const DOCUMENT: &str = r#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"S","Token":"T","Expiration":"2027-01-15T08:00:00Z"}"#;

    /// Answers each request by the first entry whose words are all in it, and with 404 otherwise.
    fn serve(answers: &'static [(&'static [&'static str], &'static str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                // Heads and bodies of these requests come at once or in two parts.
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    request.extend_from_slice(&buffer[..read]);
                }
                let request = String::from_utf8_lossy(&request);
                let found = answers.iter().find(|(words, _)| words.iter().all(|word| request.contains(word)));
                let (status, body) = found.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", *body));
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        url
    }

    fn found(variables: &[(&str, &str)]) -> Result<Credentials, String> {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        find("eu-west-1", &move |name| variables.get(name).cloned()).map_err(|error| error.to_string())
    }

    fn is_the_one(found: Result<Credentials, String>) {
        let found = found.unwrap();
        assert_eq!((found.access_key.as_str(), found.secret_key.expose()), ("ASIA1", "S"));
        assert_eq!(found.session_token.unwrap().expose(), "T");
        let expires = found.expires.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(expires.as_secs(), 1_800_000_000);
    }

    #[test]
    fn a_container_is_asked_with_the_token_of_its_file() {
        let url = serve(&[(&["GET /v1/credentials ", "authorization: pod"], DOCUMENT)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pod\n").unwrap();
        let url = format!("{url}/v1/credentials");
        let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.path().to_str().unwrap());
        is_the_one(found(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url), token]));
        let error = found(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]).unwrap_err();
        assert!(error.contains("answers 404") && error.contains("kafka.sasl_aws_profile"), "{error}");
    }

    #[test]
    fn an_instance_is_asked_by_the_second_version_of_its_protocol() {
        let url = serve(&[
            (&["PUT /latest/api/token ", "x-aws-ec2-metadata-token-ttl-seconds: 60"], "secret-token"),
            (&["GET /latest/meta-data/iam/security-credentials/plant ", "token: secret-token"], DOCUMENT),
            (&["GET /latest/meta-data/iam/security-credentials/ ", "token: secret-token"], "plant\n"),
        ]);
        is_the_one(found(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
        let error = found(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")]).unwrap_err();
        assert!(error.contains("this is not an instance with a role"), "{error}");
        let error = found(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err();
        assert!(error.contains("neither the environment nor the shared files"), "{error}");
    }

    #[test]
    fn a_web_identity_is_exchanged_for_the_credentials_of_its_role() {
        const ANSWER: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
            <SessionToken>T</SessionToken><SecretAccessKey>S</SecretAccessKey>\
            <Expiration>2027-01-15T08:00:00Z</Expiration><AccessKeyId>ASIA1</AccessKeyId>\
            </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        let url = serve(&[(
            &[
                "POST / ",
                "Action=AssumeRoleWithWebIdentity",
                "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fplant",
                "WebIdentityToken=jwt",
            ],
            ANSWER,
        )]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "jwt\n").unwrap();
        is_the_one(found(&[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/plant"),
            ("AWS_ENDPOINT_URL_STS", &url),
        ]));
    }
}
