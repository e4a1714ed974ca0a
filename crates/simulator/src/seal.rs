use crate::delivery::{Delivery, Draft};
use crate::form::{self, EmptyValues, Param, Rule};
use crate::key::{KeyError, Keys, SimulatorKey};
use crate::scenario::Plan;

/// How a draft gets its signature.
#[derive(Clone)]
pub(crate) enum Seal {
    Alipay { rule: Rule, empty: EmptyValues },
    AlipayThenAmount { total_amount: String },
    App,
    Stranger,
    Garbage { sign: String },
    Missing,
}

/// As Alipay signs payment notifications.
pub(crate) const GENUINE: Seal = Seal::Alipay { rule: Rule::V1, empty: EmptyValues::Skipped };

/// Signs them on every core: signing is nearly all the work there is.
pub(crate) fn seal_all(
    plan: &Plan,
    drafts: Vec<Draft>,
    keys: &Keys,
) -> Result<Vec<Delivery>, KeyError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = drafts.len().div_ceil(threads).max(1);
    let mut bodies: Vec<Result<Vec<u8>, KeyError>> =
        drafts.iter().map(|_| Ok(Vec::new())).collect();
    std::thread::scope(|scope| {
        for (drafts, bodies) in drafts.chunks(share).zip(bodies.chunks_mut(share)) {
            scope.spawn(move || {
                for (draft, body) in drafts.iter().zip(bodies) {
                    *body = seal(draft, keys);
                }
            });
        }
    });
    drafts
        .into_iter()
        .zip(bodies)
        .map(|(draft, body)| {
            Ok(Delivery {
                method: draft.method,
                app_id_in_path: plan.app_id.clone(),
                body: body?,
                sent_at: draft.sent_at,
                expected: draft.what.expected(),
                trade_no: draft.trade_no,
                out_trade_no: draft.out_trade_no,
                notify_id: draft.notify_id,
                what: draft.what,
            })
        })
        .collect()
}

fn seal(draft: &Draft, keys: &Keys) -> Result<Vec<u8>, KeyError> {
    let mut params = draft.params.clone();
    let by = |key: &SimulatorKey, rule, empty| {
        key.sign(&form::signed_text(&draft.params, rule, empty)).map(String::into_bytes)
    };
    let sign = match &draft.seal {
        Seal::Alipay { rule, empty } => by(&keys.alipay, *rule, *empty)?,
        Seal::AlipayThenAmount { total_amount } => {
            set(&mut params, "total_amount", total_amount.as_bytes().to_vec());
            by(&keys.alipay, Rule::V1, EmptyValues::Skipped)?
        }
        Seal::App => by(&keys.app, Rule::V1, EmptyValues::Skipped)?,
        Seal::Stranger => by(&keys.stranger, Rule::V1, EmptyValues::Skipped)?,
        Seal::Garbage { sign } => sign.clone().into_bytes(),
        Seal::Missing => {
            params.retain(|param| param.name != "sign");
            return Ok(form::body(&params));
        }
    };
    set(&mut params, "sign", sign);
    Ok(form::body(&params))
}

fn set(params: &mut [Param], name: &str, value: Vec<u8>) {
    if let Some(param) = params.iter_mut().find(|param| param.name == name) {
        param.value = value;
    }
}
