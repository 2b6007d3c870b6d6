//! `/api/session`: who is signed in (GET), in with a token (POST), and out (DELETE).

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::dashboard::problem::Problem;
use crate::dashboard::request::{body, json};
use crate::http::login::{Denied, Role};
use crate::http::{Caller, Gate, Refused};

#[derive(Serialize)]
struct Body<'a> {
    /// Whether a token is needed here.
    login: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// What a browser repeats in the header `x-iotctl-csrf` of requests that change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<&'a str>,
}

impl<'a> Body<'a> {
    fn of(caller: &'a Caller) -> Self {
        Self {
            login: true,
            name: Some(&caller.identity.name),
            role: Some(caller.identity.role),
            csrf: caller.session.as_ref().map(|session| session.csrf.as_str()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

/// 401 if a login is needed: a page that is open learns that its session is over.
pub(super) async fn get(request: Request) -> Result<Response, Problem> {
    let extensions = request.extensions();
    match (extensions.get::<Gate>(), extensions.get::<Caller>()) {
        (None, _) => json(&Body { login: false, name: None, role: None, csrf: None }),
        (Some(_), Some(caller)) => json(&Body::of(caller)),
        (Some(_), None) => Err(denied(Denied::Missing)),
    }
}

pub(super) async fn post(request: Request) -> Result<Response, Problem> {
    let gate = gate(&request)?;
    // A form of another site's page cannot have this type.
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.and_then(|kind| kind.split(';').next()).map(str::trim) == Some("application/json");
    if !is_json {
        let text = "the body is not JSON (send {\"token\":\"…\"} as application/json)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bytes = body(request).await?;
    // The text is not repeated: it may hold the token.
    let asked: SignIn = serde_json::from_slice(&bytes)
        .map_err(|_| Problem::bad_request("the body is not as expected (send {\"token\":\"…\"})"))?;
    let (caller, cookie) = gate.sign_in(asked.token.trim()).map_err(denied)?;
    let mut response = json(&Body::of(&caller))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

pub(super) async fn delete(request: Request) -> Result<Response, Problem> {
    let gate = gate(&request)?;
    let session = request.extensions().get::<Caller>().and_then(|caller| caller.session.clone());
    let session =
        session.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no browser's session is open"))?;
    let given = request.headers().get(crate::http::CSRF_HEADER).map(HeaderValue::as_bytes);
    if !session.is_confirmed_by(given.unwrap_or_default()) {
        return Err(Problem::new(Refused::Forged.status(), Refused::Forged.text()));
    }
    let cookie = gate.sign_out(&session);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

fn gate(request: &Request) -> Result<Gate, Problem> {
    let gate = request.extensions().get::<Gate>().cloned();
    gate.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no login here (set http.tokens_file)"))
}

fn denied(denied: Denied) -> Problem {
    let refused = Refused::Denied(denied);
    Problem::new(refused.status(), refused.text())
}
