//! Errors as `application/problem+json` (RFC 9457), with the remedy in a member of its own.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::analytics::groups::NoReadings;
use crate::cassandra;
use crate::error::UsageError;

/// What went wrong, in the wording of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub detail: String,
    pub remedy: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

impl Problem {
    /// From one line that ends with the remedy in parentheses, as all our errors do.
    pub(super) fn new(status: StatusCode, text: impl AsRef<str>) -> Self {
        // A flag and the parameter have the same name.
        let text = text.as_ref().replace("--", "");
        match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((detail, remedy)) if !remedy.contains(')') => {
                Self { status, detail: detail.to_owned(), remedy: Some(remedy.to_owned()) }
            }
            _ => Self { status, detail: text, remedy: None },
        }
    }

    pub(super) fn bad_request(text: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// A fault of ours: status 500.
    pub(super) fn internal(text: impl AsRef<str>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// As one line again.
    pub(super) fn line(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{} ({remedy})", self.detail),
            None => self.detail.clone(),
        }
    }

    fn body(&self) -> Body<'_> {
        Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            remedy: self.remedy.as_deref(),
        }
    }

    pub(super) fn unavailable(text: impl AsRef<str>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body().serialize(serializer)
    }
}

impl From<cassandra::Error> for Problem {
    fn from(error: cassandra::Error) -> Self {
        let status =
            if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
        Self::new(status, error.to_string())
    }
}

impl From<UsageError> for Problem {
    fn from(error: UsageError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<cassandra::Error>() {
            Ok(error) => error.into(),
            Err(error) if error.is::<NoReadings>() => Self::new(StatusCode::NOT_FOUND, format!("{error:#}")),
            Err(error) if error.is::<UsageError>() => Self::bad_request(format!("{error:#}")),
            Err(error) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let text = serde_json::to_string(&self).unwrap_or_default();
        let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (self.status, headers, text).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_separate_from_what_is_wrong() {
        let problem = Problem::bad_request("the range (a, b) ends before it starts (swap --from and --to)");
        assert_eq!(problem.detail, "the range (a, b) ends before it starts");
        assert_eq!(problem.remedy.as_deref(), Some("swap from and to"));
        assert_eq!(Problem::bad_request("no (a) such").remedy, None);
    }

    #[test]
    fn an_unreachable_cassandra_is_temporary() {
        let error = cassandra::Error::NoNodeUp { known: 1 };
        let response = Problem::from(anyhow::Error::from(error)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
