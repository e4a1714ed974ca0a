//! The tables that are written by COPY, which needs them named to diesel. Everything else is plain SQL over sets.

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

diesel::table! {
    inbox (app_id, log_topic, log_partition, log_offset) {
        app_id -> Text,
        log_topic -> Text,
        log_partition -> Integer,
        log_offset -> BigInt,
        notify_id -> Text,
        kind -> Text,
        source -> Text,
        outcome -> Text,
        trade_no -> Nullable<Text>,
        out_trade_no -> Nullable<Text>,
        received_at -> Timestamptz,
        recorded_at -> Timestamptz,
        body -> Bytea,
    }
}

diesel::table! {
    quarantine (app_id, log_topic, log_partition, log_offset) {
        app_id -> Text,
        log_topic -> Text,
        log_partition -> Integer,
        log_offset -> BigInt,
        reason -> Text,
        received_at -> Timestamptz,
        recorded_at -> Timestamptz,
        body -> Bytea,
    }
}

diesel::table! {
    dead_letter (app_id, log_topic, log_partition, log_offset) {
        app_id -> Text,
        log_topic -> Text,
        log_partition -> Integer,
        log_offset -> BigInt,
        reason -> Text,
        detail -> Text,
        received_at -> Timestamptz,
        recorded_at -> Timestamptz,
        body -> Bytea,
    }
}

diesel::table! {
    fact (app_id, trade_no, digest) {
        app_id -> Text,
        trade_no -> Text,
        digest -> Bytea,
        out_trade_no -> Text,
        kind -> Text,
        request_no -> Nullable<Text>,
        total_fen -> Nullable<BigInt>,
        receipt_fen -> Nullable<BigInt>,
        reported_fen -> Nullable<BigInt>,
        reported_as -> Nullable<Text>,
        told_at -> Nullable<Timestamptz>,
        source -> Text,
        recorded_at -> Timestamptz,
    }
}

diesel::table! {
    trade (app_id, trade_no) {
        app_id -> Text,
        trade_no -> Text,
        out_trade_no -> Text,
        state -> Text,
        total_fen -> Nullable<BigInt>,
        receipt_fen -> Nullable<BigInt>,
        receipt_known -> Bool,
        refunded_fen -> BigInt,
        created_at -> Nullable<Timestamptz>,
        paid_at -> Nullable<Timestamptz>,
        closed_at -> Nullable<Timestamptz>,
        has_conflict -> Bool,
        doubt -> Nullable<Text>,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    journal_entry (app_id, entry_id) {
        app_id -> Text,
        entry_id -> BigInt,
        trade_no -> Text,
        request_no -> Text,
        reason -> Text,
        moved_at -> Timestamptz,
        recorded_at -> Timestamptz,
    }
}

diesel::table! {
    journal_line (app_id, entry_id, account) {
        app_id -> Text,
        entry_id -> BigInt,
        account -> Text,
        amount_fen -> BigInt,
    }
}

diesel::table! {
    outbox (outbox_id) {
        outbox_id -> BigInt,
        app_id -> Text,
        kind -> Text,
        event_id -> Text,
        key -> Text,
        body -> Nullable<Text>,
        recorded_at -> Timestamptz,
    }
}
