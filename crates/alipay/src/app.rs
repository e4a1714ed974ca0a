use payment::{AppId, NotifyId, SellerId};

use crate::excerpt::{excerpt, shorten};
use crate::notification::TRADE_STATUS_SYNC;
use crate::{
    KeyRing, Notification, NotificationError, Proof, RefundFee, Refusal, Trust, UnverifiedForm,
    VerifiedForm, verify,
};

/// Takes raw bytes all the way: form, signature, addressee, content.
///
/// Pure: the same bytes and the same app give the same verdict, today and in a replay.
pub fn receive(app: &App, body: &[u8], trust: Trust) -> Verdict {
    let form = match UnverifiedForm::parse(body).map_err(Refusal::Form) {
        Ok(form) => form,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let form = match verify(form, &app.keys, trust) {
        Ok(form) => form,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let read = addressed(app, &form)
        .and_then(|()| Notification::read(&form).map_err(SetAside::Unreadable));
    match read {
        Ok(notification) => Verdict::Genuine { notification, proof: form.into_proof() },
        Err(reason) => {
            let key = key(app, &form);
            Verdict::SetAside { reason, proof: form.into_proof(), key }
        }
    }
}

/// One application of the merchant's, as far as its messages are concerned.
#[derive(Clone, Debug)]
pub struct App {
    pub app_id: AppId,
    /// The account that must be the receiver of every payment told.
    pub seller_id: SellerId,
    pub keys: KeyRing,
    pub refund_fee: RefundFee,
}

/// What becomes of received bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed by Alipay, for this app and seller, readable.
    Genuine { notification: Notification, proof: Proof },
    /// Signed by Alipay, and a check failed: the bytes are kept with the reason, and Alipay is told
    /// `success`, since it could only repeat the same.
    SetAside {
        reason: SetAside,
        proof: Proof,
        /// Keeps messages of one order together, as far as the order can be made out.
        key: String,
    },
    /// Not signed by Alipay, for all we can tell.
    Refused(Refusal),
}

/// Why a genuine message is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetAside {
    #[error("the message is genuine and cannot be read")]
    Unreadable(#[source] NotificationError),
    #[error("the message has no `app_id`")]
    MissingAppId,
    #[error("the message is for app `{app_id}`, not for `{expected}`")]
    OtherApp { app_id: String, expected: AppId },
    #[error("the message has no `seller_id`")]
    MissingSeller,
    #[error("the payment went to seller `{seller_id}`, not to `{expected}`")]
    OtherSeller { seller_id: String, expected: SellerId },
}

impl SetAside {
    /// One word for metrics and for programs; a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            SetAside::Unreadable(_) => "unreadable",
            SetAside::MissingAppId => "missing_app_id",
            SetAside::OtherApp { .. } => "other_app",
            SetAside::MissingSeller => "missing_seller",
            SetAside::OtherSeller { .. } => "other_seller",
        }
    }
}

/// Compares bytes: a message for somebody else need not be readable.
fn addressed(app: &App, form: &VerifiedForm) -> Result<(), SetAside> {
    match form.get("app_id") {
        None | Some(b"") => return Err(SetAside::MissingAppId),
        Some(app_id) if app_id == app.app_id.as_str().as_bytes() => {}
        Some(other) => {
            let expected = app.app_id.clone();
            return Err(SetAside::OtherApp { app_id: excerpt(other), expected });
        }
    }
    if form.get("notify_type") != Some(TRADE_STATUS_SYNC.as_bytes()) {
        return Ok(());
    }
    match form.get("seller_id") {
        None | Some(b"") => Err(SetAside::MissingSeller),
        Some(seller_id) if seller_id == app.seller_id.as_str().as_bytes() => Ok(()),
        Some(other) => {
            let expected = app.seller_id.clone();
            Err(SetAside::OtherSeller { seller_id: excerpt(other), expected })
        }
    }
}

/// The key of a message that is not to be read: by order, else by notification, else by app.
fn key(app: &App, form: &VerifiedForm) -> String {
    let named = ["out_trade_no", "notify_id"].into_iter().find_map(|name| {
        let value = form.get(name).filter(|value| !value.is_empty())?;
        Some(shorten(&String::from_utf8_lossy(value), NotifyId::MAX_CHARS))
    });
    match named {
        Some(name) => format!("{}/{name}", app.app_id),
        None => app.app_id.to_string(),
    }
}

#[cfg(test)]
mod tests;
