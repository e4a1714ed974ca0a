//! The link to a bill: a bearer secret that lives 30 seconds.

use chrono::{DateTime, Utc};
use payment::BillDay;
use sha2::{Digest, Sha256};

use crate::form;
use crate::gateway::Desk;
use crate::key::KeyError;
use crate::trade::compact;

const LIVES_MS: i64 = 30_000;

/// What stands where the bill was, once the link is too old (or was never given out).
pub(crate) const TOO_LATE: &str = "下载超时，请重新下载";

/// A link to the day's bill, good from `now` on.
pub(crate) fn to_bill(
    desk: &Desk,
    day: BillDay,
    host: &str,
    now: DateTime<Utc>,
) -> Result<String, KeyError> {
    let account = format!("{}0156", desk.scenario.plan.seller_id);
    let date = compact(day);
    let at_ms = now.timestamp_millis();
    let token = token(desk, &date, at_ms)?;
    Ok(format!(
        "http://{host}/downloadBillFile.resource?bizType=trade&userId={account}&fileType=csv.zip\
         &bizDates={date}&downloadFileName={account}_{date}.csv.zip\
         &fileId=%2Ftrade%2F{account}%2F{date}.csv.zip&timestamp={at_ms}&token={token}"
    ))
}

/// The bill that a link's query string leads to; `None` where the link is too old or not ours.
pub(crate) fn follow<'a>(
    desk: &'a Desk,
    query: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<&'a [u8]>, KeyError> {
    let params = form::read(query).unwrap_or_default();
    let get = |name: &str| {
        let param = params.iter().find(|param| param.name == name)?;
        std::str::from_utf8(&param.value).ok()
    };
    let (Some(date), Some(at_ms), Some(given)) = (get("bizDates"), get("timestamp"), get("token"))
    else {
        return Ok(None);
    };
    let Ok(at_ms) = at_ms.parse() else { return Ok(None) };
    if token(desk, date, at_ms)? != given {
        return Ok(None);
    }
    let lives = now.timestamp_millis().saturating_sub(at_ms) <= LIVES_MS;
    Ok(desk
        .scenario
        .bills
        .iter()
        .find(|bill| lives && compact(bill.day) == date)
        .map(|bill| bill.zip.as_slice()))
}

/// Alipay's signature makes it unforgeable, and the digest makes it short.
fn token(desk: &Desk, date: &str, at_ms: i64) -> Result<String, KeyError> {
    let sign = desk.keys.alipay.sign(format!("bill {date} {at_ms}").as_bytes())?;
    Ok(Sha256::digest(sign).iter().map(|byte| format!("{byte:02x}")).collect())
}
