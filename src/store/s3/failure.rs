//! What an answer that is no success means.
//!
//! The SDK's own error texts say "service error" and keep the reason in the
//! chain of causes; a server's reason is a code and a sentence. Here both become
//! one line and a [`Kind`].

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::base::Kind;

/// A request that failed: what that means, and a line about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// The status of the reply, 0 if there was none.
    pub(super) status: u16,
    /// The server's code, or nothing.
    pub(super) code: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into(), status: 0, code: String::new() }
    }

    /// Whether the server does not know conditional writes.
    pub(super) fn refuses_condition(&self) -> bool {
        let names_it = self.text.to_ascii_lowercase().contains("if-none-match");
        match self.status {
            501 => true,
            400 => self.code == "NotImplemented" || (self.code == "InvalidArgument" && names_it),
            _ => false,
        }
    }

    /// Whether another write of the same name was under way at that moment.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == 409
    }
}

impl<E> From<&SdkError<E>> for Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: &SdkError<E>) -> Failure {
        match error {
            SdkError::ServiceError(answer) => {
                of_answer(answer.raw(), answer.err().code(), answer.err().message())
            }
            SdkError::TimeoutError(_) => {
                Failure::new(Kind::Unavailable, "the server did not answer in time")
            }
            SdkError::DispatchFailure(failure) => {
                let cause = failure.as_connector_error().and_then(Error::source);
                let text = cause.map_or_else(|| chain(error), chain);
                if text.contains("credentials") {
                    let text = format!("no credentials that work were found: {text}");
                    Failure::new(Kind::Denied, text)
                } else {
                    let text = format!("the server cannot be reached: {text}");
                    Failure::new(Kind::Unavailable, text)
                }
            }
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                let text = format!("the answer ({status}) is not one of S3: {}", chain(error));
                Failure { status, ..Failure::new(Kind::Unavailable, text) }
            }
            _ => Failure::new(Kind::Invalid, chain(error)),
        }
    }
}

fn of_answer(raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Failure {
    let status = raw.status().as_u16();
    let code = code.unwrap_or_default();
    let kind = kind_of(status, code);
    let mut text = match (code, message.unwrap_or_default()) {
        ("", "") => format!("the server answered {status}"),
        ("", message) => format!("the server answered {status}: {message}"),
        (code, "") => format!("the server answered {status}, {code}"),
        (code, message) => format!("the server answered {status}, {code}: {message}"),
    };
    if let Some(hint) = hint(status, code) {
        text = format!("{hint} ({text})");
    }
    if let Some(region) = raw.headers().get("x-amz-bucket-region").filter(|_| kind == Kind::Invalid)
    {
        text = format!("{text}; the bucket is in region {region}");
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure { kind, text, status, code: code.to_owned() }
}

fn kind_of(status: u16, code: &str) -> Kind {
    match (code, status) {
        ("NoSuchKey" | "NoSuchBucket" | "NotFound", _) => Kind::NotFound,
        ("QuotaExceeded" | "InsufficientCapacity" | "XMinioStorageFull", _) | (_, 507) => {
            Kind::Full
        }
        ("InvalidRange", _) | (_, 416) => Kind::Damaged,
        // In an archive: neither lost nor for us to bring back.
        ("InvalidObjectState", _) => Kind::Io,
        ("SlowDown" | "RequestTimeout" | "Throttling" | "ThrottlingException", _) => {
            Kind::Unavailable
        }
        ("InternalError" | "ServiceUnavailable" | "OperationAborted", _) => Kind::Unavailable,
        // The bytes changed on the way.
        ("BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch", _) => Kind::Unavailable,
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken", _) => {
            Kind::Denied
        }
        (_, 401 | 403) => Kind::Denied,
        (_, 404) => Kind::NotFound,
        (_, 501) => Kind::Invalid,
        (_, 408 | 409 | 429 | 500..=599) => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

fn hint(status: u16, code: &str) -> Option<&'static str> {
    match (code, status) {
        ("NoSuchKey", _) => Some("no such object"),
        ("NoSuchBucket", _) => Some("the bucket does not exist"),
        ("InvalidAccessKeyId", _) => Some("the server does not know the access key"),
        ("SignatureDoesNotMatch", _) => Some("the secret key is not that of the access key"),
        ("RequestTimeTooSkewed", _) => Some("this machine's clock is wrong"),
        ("InvalidObjectState", _) => Some("it is in an archive and must be restored there first"),
        ("EntityTooLarge", _) | (_, 413) => {
            Some("it is larger than the server takes; set the largest object size")
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, 301 | 307) => {
            Some("the bucket is in another region or at another endpoint")
        }
        ("", 404) => Some("no such object or bucket"),
        _ => None,
    }
}

/// The causes of an error in one line, without those that repeat the one before.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let part = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !part.is_empty() && !parts.last().is_some_and(|last| last.contains(&part)) {
            parts.push(part);
        }
        next = cause.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let table = [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "NoSuchBucket", Kind::NotFound),
            (404, "", Kind::NotFound),
            (403, "AccessDenied", Kind::Denied),
            (400, "ExpiredToken", Kind::Denied),
            (403, "QuotaExceeded", Kind::Full),
            (503, "SlowDown", Kind::Unavailable),
            (500, "InternalError", Kind::Unavailable),
            (429, "", Kind::Unavailable),
            (502, "", Kind::Unavailable),
            (416, "InvalidRange", Kind::Damaged),
            (501, "NotImplemented", Kind::Invalid),
            (400, "InvalidArgument", Kind::Invalid),
            (301, "PermanentRedirect", Kind::Invalid),
        ];
        for (status, code, kind) in table {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn only_an_answer_about_the_condition_turns_conditional_writes_off() {
        let failure = |status, code: &str, text: &str| Failure {
            kind: Kind::Invalid,
            text: text.to_owned(),
            status,
            code: code.to_owned(),
        };
        assert!(failure(501, "NotImplemented", "").refuses_condition());
        assert!(failure(400, "NotImplemented", "").refuses_condition());
        assert!(failure(400, "InvalidArgument", "Unsupported: If-None-Match").refuses_condition());
        assert!(!failure(400, "InvalidArgument", "x-amz-storage-class").refuses_condition());
        assert!(!failure(403, "AccessDenied", "If-None-Match").refuses_condition());
    }
}
