use std::io;

use payment::BillDay;

use super::Environment;
use crate::excerpt::shorten;
use crate::response::Answer;
use crate::{KeyError, ResponseError};

/// Why the open API did not give what was asked for. Never holds a download link.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(
        "the gateway's address is not one; it looks like `https://openapi.alipay.com/gateway.do`"
    )]
    NotAUrl,
    #[error(
        "the gateway `{host}` does not belong to the {environment} environment of this app; \
         change `gateway` or `environment`"
    )]
    OtherEnvironment { host: String, environment: Environment },
    #[error("the request could not be signed")]
    NotSigned(#[source] KeyError),
    #[error("the exchange with `{host}` failed: {fault}")]
    Transport { host: String, fault: TransportFault },
    #[error("`{host}` answered with HTTP status {status}")]
    Status { host: String, status: u16 },
    #[error("`{host}` sent more than {limit_bytes} bytes")]
    TooLarge { host: String, limit_bytes: u64 },
    #[error("the gateway's answer cannot be used")]
    Response(#[source] ResponseError),
    /// Alipay's own words, unsigned at times: good for telling people and nothing else.
    #[error(
        "Alipay refused `{method}` with {code}{}: {sub_msg}{}",
        sub_code_text(sub_code),
        hint_text(*hint)
    )]
    Refused {
        method: &'static str,
        code: String,
        /// Empty where Alipay gives none.
        sub_code: String,
        /// `sub_msg`, else `msg`.
        sub_msg: String,
        /// What to do, where it is known.
        hint: Option<&'static str>,
    },
    #[error(
        "Alipay has no `{bill_type}` bill of {day}: nothing happened that day, or it is not \
         written yet (normally by 09:00)"
    )]
    BillNotExist { bill_type: String, day: BillDay },
    #[error("Alipay gave no download link with the bill")]
    NoLink,
    #[error("the bill's download link is not an http or https address")]
    BadLink,
    #[error("the bill's download link has expired; ask for another")]
    LinkExpired,
    #[error("what the bill's download link gave is not a zip file")]
    NotAnArchive,
    #[error("the bill could not be written")]
    NotWritten(#[source] io::Error),
}

/// What went wrong between here and the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportFault {
    #[error("it took too long")]
    Timeout,
    #[error("there is no such host")]
    HostNotFound,
    #[error("no TLS connection could be made; check the clock and what stands between")]
    Tls,
    #[error("{0}")]
    Connection(io::ErrorKind),
    #[error("it does not speak HTTP as expected")]
    Protocol,
}

impl GatewayError {
    /// A label for `suanpan_gateway_requests_total{code}`, of a closed set: Alipay's code where it
    /// gave one (a success has `10000`), else a word for what failed.
    pub fn code(&self) -> &'static str {
        match self {
            GatewayError::NotAUrl | GatewayError::OtherEnvironment { .. } => "misconfigured",
            GatewayError::NotSigned(_) => "not_signed",
            GatewayError::Transport { fault: TransportFault::Timeout, .. } => "timeout",
            GatewayError::Transport { .. } => "transport",
            GatewayError::Status { .. } => "http_status",
            GatewayError::TooLarge { .. } => "too_large",
            GatewayError::Response(
                ResponseError::WrongSignature
                | ResponseError::UnsignedSuccess
                | ResponseError::BadSign,
            ) => "bad_signature",
            GatewayError::Response(
                ResponseError::Malformed { .. }
                | ResponseError::RepeatedMember
                | ResponseError::NoNode { .. }
                | ResponseError::NotAnObject
                | ResponseError::Encrypted,
            ) => "malformed",
            GatewayError::Refused { code, .. } => known_code(code),
            GatewayError::BillNotExist { .. } => "bill_not_exist",
            GatewayError::NoLink | GatewayError::BadLink => "no_link",
            GatewayError::LinkExpired => "link_expired",
            GatewayError::NotAnArchive => "not_an_archive",
            GatewayError::NotWritten(_) => "not_written",
        }
    }

    /// Keeps the kind of the failure and drops its text, which may hold the address.
    #[expect(clippy::wildcard_enum_match_arm, reason = "ureq's enum is open")]
    pub(super) fn transport(host: &str, error: &ureq::Error) -> Self {
        let fault = match error {
            ureq::Error::Timeout(_) => TransportFault::Timeout,
            ureq::Error::HostNotFound => TransportFault::HostNotFound,
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                TransportFault::Timeout
            }
            ureq::Error::Io(error) => TransportFault::Connection(error.kind()),
            ureq::Error::ConnectionFailed => {
                TransportFault::Connection(io::ErrorKind::NotConnected)
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
                TransportFault::Tls
            }
            _ => TransportFault::Protocol,
        };
        GatewayError::Transport { host: host.to_owned(), fault }
    }
}

/// What Alipay says in an answer that is no success.
pub(super) fn refused(method: &'static str, answer: &Answer) -> GatewayError {
    let text = |name: &str| shorten(answer.text(name).unwrap_or_default(), 120);
    let sub_code = text("sub_code");
    GatewayError::Refused {
        method,
        code: text("code"),
        hint: hint(&sub_code),
        sub_code,
        sub_msg: if answer.text("sub_msg").is_some() { text("sub_msg") } else { text("msg") },
    }
}

fn sub_code_text(sub_code: &str) -> String {
    if sub_code.is_empty() { String::new() } else { format!(" {sub_code}") }
}

fn hint_text(hint: Option<&str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// Compares without case and without what stands before the dot (`isp.`, `ACQ.`), in which
/// Alipay's answers differ from its documents.
pub(super) fn is_sub_code(sub_code: &str, name: &str) -> bool {
    let last = sub_code.rsplit('.').next().unwrap_or(sub_code);
    last.eq_ignore_ascii_case(name)
}

fn hint(sub_code: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 11] = [
        (
            "invalid-signature",
            "the public key registered in Alipay's console is not that of `signing_key`",
        ),
        (
            "invalid-app-id",
            "Alipay does not know this app here; sandbox and production have apps of their own",
        ),
        ("missing-signature-key", "no public key is registered for the app in Alipay's console"),
        ("invalid-timestamp", "this machine's clock is off"),
        (
            "insufficient-isv-permissions",
            "the app lacks this interface; sign up for it in Alipay's console",
        ),
        ("invalid_arguments", "the day is today, in the future, or too long ago"),
        ("invalid-arguments", "the day is today, in the future, or too long ago"),
        ("bill_date_before_registration", "the account did not exist on that day"),
        ("app-call-limited", "too many calls; try later"),
        ("method-call-limited", "too many calls; try later"),
        ("unknow-error", "Alipay is out of order; try later"),
    ];
    HINTS.iter().find(|(name, _)| is_sub_code(sub_code, name)).map(|(_, hint)| *hint)
}

fn known_code(code: &str) -> &'static str {
    const CODES: [&str; 7] = ["20000", "20001", "40001", "40002", "40004", "40005", "40006"];
    CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}
