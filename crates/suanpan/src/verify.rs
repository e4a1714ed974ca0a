use std::io::Read;
use std::process::ExitCode;

use alipay::{Kind, Notification, Trust, UnverifiedForm, Verdict};
use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::{Common, VerifyArgs};
use crate::setup;

/// Says whether a body is genuine, and what it tells.
pub(crate) fn verify(common: &Common, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let settings = setup::settings(common)?;
    let app = setup::app(setup::app_settings(&settings, &args.app)?)?;
    let body = read_body(args)?;

    let form = UnverifiedForm::parse(&body)
        .map_err(alipay::Refusal::Form)
        .and_then(|form| alipay::verify(form, &app.keys, Trust::Active));
    let form = match form {
        Ok(form) => form,
        Err(refusal) => {
            let reason = service::chain(&refusal);
            print(common, &json!({ "genuine": false, "cause": refusal.cause(), "reason": reason }));
            return Ok(ExitCode::FAILURE);
        }
    };
    let proof = form.proof();
    let mut result = json!({
        "genuine": true,
        "rule": proof.rule.as_str(),
        "sign_type": proof.sign_type.as_str(),
        "key": proof.key,
    });
    let told = match Notification::read(&form) {
        Ok(notification) => tell(&notification),
        Err(_) => json!({}),
    };
    // Genuine, and yet the ingress would set it aside: another app's, another seller's, or unreadable.
    let set_aside = match alipay::receive(&app, &body, Trust::Active) {
        Verdict::SetAside { reason, .. } => {
            json!({ "set_aside": reason.code(), "reason": service::chain(&reason) })
        }
        Verdict::Genuine { .. } | Verdict::Refused(_) => json!({}),
    };
    if let (Value::Object(result), Value::Object(told), Value::Object(set_aside)) =
        (&mut result, told, set_aside)
    {
        result.extend(told);
        result.extend(set_aside);
    }
    print(common, &result);
    Ok(ExitCode::SUCCESS)
}

fn tell(notification: &Notification) -> Value {
    let notify_id = notification.notify_id.as_ref().map(|id| id.as_str());
    match &notification.kind {
        Kind::Trade(trade) => json!({
            "notify_id": notify_id,
            "kind": "trade_status_sync",
            "trade_no": trade.trade_no.as_str(),
            "out_trade_no": trade.out_trade_no.as_str(),
            "trade_status": trade.status.as_str(),
            "total_fen": trade.total.get(),
            "refund_fen": trade.refund.as_ref().map(|refund| refund.refund_fee.get()),
        }),
        Kind::Other { name } => json!({
            "notify_id": notify_id,
            "kind": name,
            "out_trade_no": null,
            "trade_status": null,
            "total_fen": null,
        }),
    }
}

/// The body as Alipay sent it. Editors and shells end a file with a newline, which no body has.
fn read_body(args: &VerifyArgs) -> anyhow::Result<Vec<u8>> {
    const LIMIT_BYTES: u64 = 16 << 20;
    let mut body = Vec::new();
    match &args.body {
        Some(file) => std::fs::File::open(file)
            .and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut body))
            .with_context(|| format!("cannot read the body from {}", file.display()))?,
        None => std::io::stdin()
            .take(LIMIT_BYTES)
            .read_to_end(&mut body)
            .context("cannot read the body from standard input")?,
    };
    let text = body.strip_suffix(b"\n").unwrap_or(&body);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Ok(text.to_vec())
}

fn print(common: &Common, result: &Value) {
    if common.json {
        println!("{result}");
        return;
    }
    let Value::Object(fields) = result else { return };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match value {
            Value::String(text) => println!("{name:<13} {text}"),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                println!("{name:<13} {value}");
            }
        }
    }
}
