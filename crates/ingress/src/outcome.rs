use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use alipay::Refusal;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Genuine, and in the log.
    Accepted,
    /// Genuine, failed a check, and kept with the reason.
    Quarantined,
    /// Not genuine.
    Refused(Refused),
    /// Genuine, and not in the log, for all we know.
    Unavailable,
    /// More bytes than are read.
    TooLarge,
    /// The sender took too long.
    TimedOut,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// One word of a closed set.
    pub(crate) cause: &'static str,
}

impl Outcome {
    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Quarantined => "quarantined",
            Outcome::Refused(_) => "refused",
            Outcome::Unavailable => "unavailable",
            Outcome::TooLarge => "too_large",
            Outcome::TimedOut => "timed_out",
        }
    }

    /// Every label there is.
    pub(crate) const LABELS: [&str; 6] =
        ["accepted", "quarantined", "refused", "unavailable", "too_large", "timed_out"];

    /// `success` to the byte, which ends Alipay's retries; or `fail`, and no word of why.
    pub(crate) fn answer(self) -> HttpResponse {
        let (status, body) = match self {
            Outcome::Accepted | Outcome::Quarantined => (StatusCode::OK, "success"),
            Outcome::Refused(refused) => (refused.status, "fail"),
            Outcome::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "fail"),
            Outcome::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "fail"),
            Outcome::TimedOut => (StatusCode::REQUEST_TIMEOUT, "fail"),
        };
        HttpResponse::build(status).content_type(ContentType::plaintext()).body(body)
    }
}

impl Refused {
    /// The path names no app of ours.
    pub(crate) const UNKNOWN_APP: Refused =
        Refused { status: StatusCode::NOT_FOUND, cause: "unknown_app" };
    /// No path of ours: a `notify_url` with a typing mistake looks like this.
    pub(crate) const UNKNOWN_PATH: Refused =
        Refused { status: StatusCode::NOT_FOUND, cause: "unknown_path" };
    /// Neither `POST` nor `GET`.
    pub(crate) const OTHER_METHOD: Refused =
        Refused { status: StatusCode::METHOD_NOT_ALLOWED, cause: "other_method" };
    /// The sender went away in the middle, or broke the protocol.
    pub(crate) const INCOMPLETE_BODY: Refused =
        Refused { status: StatusCode::BAD_REQUEST, cause: "incomplete_body" };

    /// 400 for what cannot be a signed form, 403 for one that none of the keys has signed.
    pub(crate) fn by(refusal: &Refusal) -> Self {
        let status = match refusal {
            Refusal::Form(_)
            | Refusal::MissingSign
            | Refusal::EmptySign
            | Refusal::BadBase64 { .. }
            | Refusal::UnsupportedSignType { .. } => StatusCode::BAD_REQUEST,
            Refusal::SignatureLength { .. }
            | Refusal::WrongSignature
            | Refusal::UnknownCharset { .. } => StatusCode::FORBIDDEN,
        };
        Refused { status, cause: refusal.cause() }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;

    use super::*;

    fn answer(outcome: Outcome) -> (u16, String) {
        let response = outcome.answer();
        let status = response.status().as_u16();
        assert_eq!(response.headers().get("content-type").unwrap(), "text/plain; charset=utf-8");
        let body = response.into_body().try_into_bytes().unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn success_is_seven_bytes_and_everything_else_is_fail() {
        let refused = |refusal: &Refusal| Outcome::Refused(Refused::by(refusal));
        for (outcome, label, status, body) in [
            (Outcome::Accepted, "accepted", 200, "success"),
            (Outcome::Quarantined, "quarantined", 200, "success"),
            (refused(&Refusal::MissingSign), "refused", 400, "fail"),
            (refused(&Refusal::BadBase64 { offset: 3 }), "refused", 400, "fail"),
            (refused(&Refusal::WrongSignature), "refused", 403, "fail"),
            (refused(&Refusal::SignatureLength { bytes: 3 }), "refused", 403, "fail"),
            (Outcome::Refused(Refused::UNKNOWN_APP), "refused", 404, "fail"),
            (Outcome::Refused(Refused::INCOMPLETE_BODY), "refused", 400, "fail"),
            (Outcome::Unavailable, "unavailable", 503, "fail"),
            (Outcome::TooLarge, "too_large", 413, "fail"),
            (Outcome::TimedOut, "timed_out", 408, "fail"),
        ] {
            assert_eq!(answer(outcome), (status, body.to_owned()), "{outcome:?}");
            assert_eq!(outcome.label(), label);
            assert!(Outcome::LABELS.contains(&label));
        }
    }
}
