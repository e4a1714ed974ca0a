//! What the ledger holds, in a form that can be compared.

use std::collections::{BTreeMap, HashSet};

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use ledger::Connection;
use serde_json::Value;

use super::sql;

/// Everything the ledger holds of each trade, by the trade's number: its row, its refunds, its facts, its
/// conflicts, and the journal's balances. The trade's own number reads `T` in it, so trades of which the same
/// was told have the same text. When something was recorded, and in how many entries, is left out.
pub(crate) fn of_trades(conn: &mut Connection, like: &str) -> BTreeMap<String, String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        trade_no: String,
        #[diesel(sql_type = Text)]
        book: String,
    }
    let rows: Vec<Row> = sql_query(
        "WITH line (trade_no, part, text) AS (
             SELECT trade_no, 1, format('%s %s, total %s, receipt %s (known: %s), refunded %s, created %s, '
                        'paid %s, closed %s, conflict: %s, doubt: %s', out_trade_no, state, total_fen,
                        receipt_fen, receipt_known, refunded_fen, created_at, paid_at, closed_at,
                        has_conflict, doubt)
               FROM trade
             UNION ALL
             SELECT trade_no, 2, format('refund %s: %s, receipt %s, at %s, confirmed: %s, conflict: %s',
                        request_no, amount_fen, receipt_fen, refunded_at, confirmed, has_conflict)
               FROM refund
             UNION ALL
             SELECT trade_no, 3, format('fact of %s: %s %s %s %s %s %s %s', out_trade_no, kind, request_no,
                        total_fen, receipt_fen, reported_fen, reported_as, told_at)
               FROM fact
             UNION ALL
             SELECT trade_no, 4, format('conflict: %s %s %s', subject, request_no, told)
               FROM conflict
             UNION ALL
             SELECT trade_no, 5, format('balance %s %s: %s', request_no, account, sum(amount_fen))
               FROM journal_entry JOIN journal_line USING (app_id, entry_id)
              GROUP BY app_id, trade_no, request_no, account
             HAVING sum(amount_fen) <> 0)
         SELECT trade_no,
                string_agg(replace(text, trade_no, 'T'), E'\\n'
                           ORDER BY part, replace(text, trade_no, 'T') COLLATE \"C\") AS book
           FROM line WHERE trade_no LIKE $1 GROUP BY trade_no",
    )
    .bind::<Text, _>(like)
    .load(conn)
    .unwrap();
    rows.into_iter().map(|row| (row.trade_no, row.book)).collect()
}

/// What must be true of every journal: each entry sums to zero, each movement's balance is what its trade and
/// refund say, and the clearing account holds what was received and not given back.
pub(crate) fn assert_sound(conn: &mut Connection) {
    let unbalanced = sql::texts(
        conn,
        "SELECT format('entry %s: %s fen in %s lines', entry_id, sum(amount_fen), count(amount_fen)) AS text
           FROM journal_entry LEFT JOIN journal_line USING (app_id, entry_id)
          GROUP BY app_id, entry_id HAVING sum(amount_fen) IS DISTINCT FROM 0",
    );
    assert!(unbalanced.is_empty(), "{unbalanced:#?}");

    let wrong = sql::texts(
        conn,
        "WITH booked AS (
             SELECT app_id, trade_no, request_no,
                    coalesce(sum(amount_fen) FILTER (WHERE account = 'alipay:clearing'), 0) AS clearing_fen,
                    coalesce(sum(amount_fen) FILTER (WHERE account = 'sales'), 0) AS sales_fen
               FROM journal_entry JOIN journal_line USING (app_id, entry_id)
              GROUP BY app_id, trade_no, request_no)
         SELECT format('trade %s, request %s: journal %s of %s, trade %s of %s', trade_no, request_no,
                       clearing_fen, -sales_fen, receipt_fen, total_fen) AS text
           FROM movement FULL JOIN booked USING (app_id, trade_no, request_no)
          WHERE coalesce(receipt_fen, 0) <> coalesce(clearing_fen, 0)
             OR coalesce(total_fen, 0) <> -coalesce(sales_fen, 0)",
    );
    assert!(wrong.is_empty(), "{wrong:#?}");

    let clearing = sql::number(
        conn,
        "SELECT coalesce(sum(amount_fen), 0)::bigint AS number FROM journal_line
          WHERE account = 'alipay:clearing'",
    );
    let received = sql::number(
        conn,
        "SELECT ((SELECT coalesce(sum(receipt_fen), 0) FROM trade WHERE paid_at IS NOT NULL)
               - (SELECT coalesce(sum(receipt_fen), 0) FROM refund))::bigint AS number",
    );
    assert_eq!(clearing, received, "clearing account against receipts less refunds");
}

/// What must be true of the outbox while nothing of it has been sent: no event is there twice, and whoever adds up a
/// trade's events in their order has the trade's figures.
pub(crate) fn assert_told(conn: &mut Connection) {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        event_id: String,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Text)]
        body: String,
    }
    let rows: Vec<Row> =
        sql_query("SELECT event_id, kind, body FROM outbox ORDER BY outbox_id").load(conn).unwrap();
    let mut ids = HashSet::new();
    // Of each movement: total and receipt, positive on refunds too.
    let mut figures: BTreeMap<(String, String), [i64; 2]> = BTreeMap::new();
    let mut conflicts: BTreeMap<String, usize> = BTreeMap::new();
    let mut closed = HashSet::new();
    for row in rows {
        assert!(ids.insert(row.event_id.clone()), "told twice: {}", row.event_id);
        let body: Value = serde_json::from_str(&row.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let fen = |name: &str| body[name].as_i64().unwrap();
        let movement = (text("trade_no"), text("request_no"));
        match row.kind.as_str() {
            "suanpan.trade.paid" => {
                figures.insert(movement, [fen("total_fen"), fen("receipt_fen")]);
            }
            "suanpan.trade.refunded" => {
                figures.insert(movement, [fen("amount_fen"), fen("receipt_fen")]);
            }
            "suanpan.trade.corrected" => {
                let of = figures.entry(movement).or_default();
                of[0] += fen("change_total_fen");
                of[1] += fen("change_receipt_fen");
                assert_eq!(*of, [fen("total_fen"), fen("receipt_fen")], "{}", row.event_id);
            }
            "suanpan.trade.conflict" => {
                let (trade_no, request_no) = movement;
                let told = body["told"].as_array().unwrap().len();
                conflicts.insert(format!("{trade_no} {} {request_no}", text("subject")), told);
            }
            "suanpan.trade.closed" => {
                closed.insert(movement.0);
            }
            other => panic!("{other} is no event of a trade"),
        }
    }
    figures.retain(|_, figures| *figures != [0, 0]);
    let added_up: Vec<String> = figures
        .iter()
        .map(|((trade_no, request_no), [total, receipt])| {
            format!("{trade_no} {request_no}: {total}, {receipt}")
        })
        .collect();
    let stand = sql::texts(
        conn,
        "SELECT format('%s %s: %s, %s', trade_no, request_no, abs(total_fen),
                       CASE business WHEN 'payment' THEN receipt_fen ELSE -receipt_fen END) AS text
           FROM movement WHERE (total_fen, receipt_fen) <> (0, 0)
          ORDER BY trade_no COLLATE \"C\", request_no COLLATE \"C\"",
    );
    assert_eq!(added_up, stand);
    let noted = sql::texts(
        conn,
        "SELECT format('%s %s %s=%s', trade_no, subject, request_no, count(*)) AS text
           FROM conflict GROUP BY trade_no, subject, request_no",
    );
    let told: HashSet<String> =
        conflicts.iter().map(|(about, values)| format!("{about}={values}")).collect();
    assert_eq!(told, noted.into_iter().collect());
    let trades = sql::texts(conn, "SELECT trade_no AS text FROM trade WHERE state = 'closed'");
    let untold: Vec<&String> = trades.iter().filter(|no| !closed.contains(*no)).collect();
    assert!(untold.is_empty(), "closed and not told: {untold:?}");
}
