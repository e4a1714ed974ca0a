//! The one table that is named to diesel: COPY needs it. Everything else is plain SQL over sets.

diesel::table! {
    bill_row (app_id, bill_id, entry, line) {
        app_id -> Text,
        bill_id -> BigInt,
        entry -> Integer,
        line -> BigInt,
        row_offset -> BigInt,
        business -> Text,
        trade_no -> Text,
        request_no -> Text,
        out_trade_no -> Text,
        completed_at -> Timestamptz,
        total_fen -> BigInt,
        receipt_fen -> BigInt,
        fee_fen -> BigInt,
        share_fen -> BigInt,
    }
}
