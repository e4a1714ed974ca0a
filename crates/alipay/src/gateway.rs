//! Alipay's open API. The only part of this crate that speaks to anyone.

use std::fmt;
use std::io::{Read, Write};
use std::time::Duration;

use chrono::{DateTime, Utc};
use memchr::memmem;
use payment::{AppId, BillDay};
use serde_json::json;
use ureq::http::Uri;

use crate::excerpt::shorten;
use crate::response::Answer;
use crate::{KeyRing, SigningKey};

mod error;
mod request;

pub use error::{GatewayError, TransportFault};

/// The method that [`Gateway::bill_download_url`] calls.
pub const BILL_DOWNLOAD_URL: &str = "alipay.data.dataservice.bill.downloadurl.query";

/// Answers are a few hundred bytes.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// What the gateway says instead of a bill once the link is 30 seconds old (下载超时), in UTF-8 and GBK.
const EXPIRED: [&[u8]; 2] = ["下载超时".as_bytes(), b"\xCF\xC2\xD4\xD8\xB3\xAC\xCA\xB1"];

/// One app's access to Alipay's open API; blocking.
///
/// Follows no redirects and uses no proxy from the environment.
pub struct Gateway {
    url: String,
    host: String,
    app_id: AppId,
    signing_key: SigningKey,
    keys: KeyRing,
    agent: ureq::Agent,
    download: ureq::Agent,
}

/// Alipay's two worlds; keys and gateways of one are unknown in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    Sandbox,
    Production,
}

/// How long the gateway may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To find and reach it.
    pub connect: Duration,
    /// Between two signs of life.
    pub read: Duration,
    /// For a whole bill.
    pub download: Duration,
}

/// Where a bill can be fetched for 30 seconds.
#[derive(Clone, PartialEq, Eq)]
pub struct BillAddress {
    /// Whoever holds it can read the bill: never logged.
    pub url: Option<String>,
    /// Alipay says that the day has no rows (`bill_file_code` is `EMPTY_DATA_WITH_BILL_FILE`).
    pub empty: bool,
}

impl Gateway {
    /// `url` is the gateway's, as `https://openapi.alipay.com/gateway.do`. Refused if it is not http
    /// or https, or if it is known to belong to the other environment.
    pub fn new(
        url: &str,
        app_id: AppId,
        environment: Environment,
        signing_key: SigningKey,
        keys: KeyRing,
        timeouts: Timeouts,
    ) -> Result<Self, GatewayError> {
        let host = host(url).ok_or(GatewayError::NotAUrl)?;
        let of = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let other = match environment {
            Environment::Sandbox => of("alipay.com"),
            Environment::Production => of("alipaydev.com"),
        };
        if other {
            return Err(GatewayError::OtherEnvironment { host, environment });
        }
        let joint = if url.contains('?') { '&' } else { '?' };
        Ok(Gateway {
            // The gateway decodes the form by the charset in the query.
            url: format!("{url}{joint}charset={}", request::CHARSET),
            host,
            app_id,
            signing_key,
            keys,
            agent: agent(
                timeouts,
                timeouts.connect.saturating_add(timeouts.read.saturating_mul(2)),
            ),
            download: agent(timeouts, timeouts.download),
        })
    }

    /// Asks where the bill of `day` lies. `bill_type` is `trade` (业务账单) or `signcustomer`
    /// (账务账单); `now` goes into the request, Alipay refuses one that is far off.
    ///
    /// [`GatewayError::BillNotExist`] means that nothing happened that day or that the bill is not
    /// written yet; the clock and the orders decide.
    pub fn bill_download_url(
        &self,
        bill_type: &str,
        day: BillDay,
        now: DateTime<Utc>,
    ) -> Result<BillAddress, GatewayError> {
        let biz_content = json!({ "bill_type": bill_type, "bill_date": day.to_string() });
        let answer = self.call(BILL_DOWNLOAD_URL, &biz_content.to_string(), now)?;
        if answer.success {
            return Ok(BillAddress {
                url: answer.text("bill_download_url").map(str::to_owned),
                empty: answer.text("bill_file_code") == Some("EMPTY_DATA_WITH_BILL_FILE"),
            });
        }
        // The documents name the code without `isp.`; what nobody has signed decides nothing.
        let missing = answer.text("sub_code").is_some_and(|sub_code| {
            answer.signed && error::is_sub_code(sub_code, "bill_not_exist")
        });
        if missing {
            return Err(GatewayError::BillNotExist { bill_type: bill_type.to_owned(), day });
        }
        Err(error::refused(BILL_DOWNLOAD_URL, &answer))
    }

    /// Fetches a bill into `into` and says how many bytes it has. To be called at once: the link
    /// lives 30 seconds.
    ///
    /// A bill of more than `limit_bytes` is an error; `into` then holds a part of it.
    pub fn download(
        &self,
        address: &BillAddress,
        into: &mut impl Write,
        limit_bytes: u64,
    ) -> Result<u64, GatewayError> {
        let url = address.url.as_deref().ok_or(GatewayError::NoLink)?;
        let host = host(url).ok_or(GatewayError::BadLink)?;
        let failed = |error: ureq::Error| GatewayError::transport(&host, &error);
        let response = self.download.get(url).call().map_err(failed)?;
        if response.status() != 200 {
            return Err(GatewayError::Status { host, status: response.status().as_u16() });
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut read = |buffer: &mut [u8]| body.read(buffer).map_err(|error| failed(error.into()));

        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0_u64;
        let mut filled = 0;
        // The first chunk is filled up, so that a refusal can be recognised in it as a whole.
        let mut head = true;
        loop {
            let count = read(buffer.get_mut(filled..).unwrap_or_default())?;
            filled += count;
            if head && count > 0 && filled < 4096 {
                continue;
            }
            let chunk = buffer.get(..filled).unwrap_or_default();
            if head {
                check_archive(chunk)?;
                head = false;
            }
            bytes = bytes.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            if bytes > limit_bytes {
                return Err(GatewayError::TooLarge { host, limit_bytes });
            }
            into.write_all(chunk).map_err(GatewayError::NotWritten)?;
            filled = 0;
            if count == 0 {
                return Ok(bytes);
            }
        }
    }

    /// One signed request and its verified answer, a success or not.
    fn call(
        &self,
        method: &str,
        biz_content: &str,
        now: DateTime<Utc>,
    ) -> Result<Answer, GatewayError> {
        let form = request::signed(&self.app_id, &self.signing_key, method, biz_content, now)
            .map_err(GatewayError::NotSigned)?;
        let failed = |error: ureq::Error| GatewayError::transport(&self.host, &error);
        let response = self
            .agent
            .post(&self.url)
            .header("content-type", request::CONTENT_TYPE)
            .send(form.as_bytes())
            .map_err(failed)?;
        if response.status() != 200 {
            let status = response.status().as_u16();
            return Err(GatewayError::Status { host: self.host.clone(), status });
        }
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut answer = Vec::new();
        let read = body
            .take(MAX_ANSWER_BYTES + 1)
            .read_to_end(&mut answer)
            .map_err(|error| failed(error.into()))?;
        if u64::try_from(read).unwrap_or(u64::MAX) > MAX_ANSWER_BYTES {
            let (host, limit_bytes) = (self.host.clone(), MAX_ANSWER_BYTES);
            return Err(GatewayError::TooLarge { host, limit_bytes });
        }
        Answer::open(&answer, method, &self.keys).map_err(GatewayError::Response)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gateway({} for app {})", self.host, self.app_id)
    }
}

impl Environment {
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Sandbox => "sandbox",
            Environment::Production => "production",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for Timeouts {
    /// Those of Alipay's own clients, and half an hour for a bill.
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(3),
            read: Duration::from_secs(15),
            download: Duration::from_secs(30 * 60),
        }
    }
}

impl fmt::Debug for BillAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = if self.url.is_some() { "hidden" } else { "none" };
        write!(f, "BillAddress {{ url: {url}, empty: {} }}", self.empty)
    }
}

/// The host of an http or https address, in lower case.
fn host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().filter(|host| web && !host.is_empty())?;
    Some(shorten(host.trim_end_matches('.'), 253).to_ascii_lowercase())
}

fn agent(timeouts: Timeouts, whole: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent("suanpan")
        // A kept connection may be dead by the next call, hours later.
        .max_idle_connections(0)
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.read))
        .timeout_per_read(Some(timeouts.read))
        .timeout_per_write(Some(timeouts.read))
        .timeout_global(Some(whole))
        .build()
        .into()
}

/// Refuses what cannot be a zip file, by its first bytes.
fn check_archive(head: &[u8]) -> Result<(), GatewayError> {
    if head.starts_with(b"PK") {
        Ok(())
    } else if EXPIRED.iter().any(|text| memmem::find(head, text).is_some()) {
        Err(GatewayError::LinkExpired)
    } else {
        Err(GatewayError::NotAnArchive)
    }
}

#[cfg(test)]
mod tests;
