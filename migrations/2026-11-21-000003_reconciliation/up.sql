-- A bill as it was read. Re-issued bills stand beside the first; the last one loaded counts.
CREATE TABLE bill (
    app_id       text        NOT NULL,
    bill_id      bigint      GENERATED ALWAYS AS IDENTITY,
    day          date        NOT NULL,
    sha256       bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    -- Where the original is kept, relative to data_dir; empty for a day the gateway says is empty.
    file         text        NOT NULL,
    account      text        NOT NULL,
    rows         bigint      NOT NULL CHECK (rows >= 0),
    net_fen      bigint      NOT NULL,
    fee_fen      bigint      NOT NULL,
    loaded_at    timestamptz NOT NULL,
    PRIMARY KEY (app_id, bill_id),
    UNIQUE (app_id, day, sha256)
);

-- One row of a bill, compact: its text is read back from the kept original by entry and offset.
CREATE TABLE bill_row (
    app_id       text        NOT NULL,
    bill_id      bigint      NOT NULL,
    entry        integer     NOT NULL,
    line         bigint      NOT NULL,
    row_offset   bigint      NOT NULL,
    business     text        NOT NULL CHECK (business IN ('payment', 'refund')),
    trade_no     text        NOT NULL,
    -- Empty for payments; a refund without a number of its own carries its trade_no, as notifications do.
    request_no   text        NOT NULL,
    out_trade_no text        NOT NULL,
    completed_at timestamptz NOT NULL,
    total_fen    bigint      NOT NULL,
    receipt_fen  bigint      NOT NULL,
    fee_fen      bigint      NOT NULL,
    share_fen    bigint      NOT NULL,
    PRIMARY KEY (app_id, bill_id, entry, line)
);
CREATE INDEX bill_row_trade_no ON bill_row (app_id, trade_no);
CREATE TRIGGER bill_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bill
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER bill_row_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bill_row
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One run over one day. The completeness table is checked here once more: the buckets add up to both sides.
CREATE TABLE reconciliation_run (
    app_id           text        NOT NULL,
    day              date        NOT NULL,
    run_no           integer     NOT NULL CHECK (run_no > 0),
    bill_id          bigint      NOT NULL,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL,
    bill_rows        bigint      NOT NULL,
    bill_net_fen     bigint      NOT NULL,
    ledger_movements bigint      NOT NULL,
    ledger_net_fen   bigint      NOT NULL,
    -- In the order matched, carried, explained, open.
    counts           bigint[]    NOT NULL CHECK (cardinality(counts) = 4),
    rows_of          bigint[]    NOT NULL CHECK (cardinality(rows_of) = 4),
    movements_of     bigint[]    NOT NULL CHECK (cardinality(movements_of) = 4),
    bill_fen_of      bigint[]    NOT NULL CHECK (cardinality(bill_fen_of) = 4),
    ledger_fen_of    bigint[]    NOT NULL CHECK (cardinality(ledger_fen_of) = 4),
    opened           integer     NOT NULL,
    reopened         integer     NOT NULL,
    resolved         integer     NOT NULL,
    unchanged        integer     NOT NULL,
    PRIMARY KEY (app_id, day, run_no),
    FOREIGN KEY (app_id, bill_id) REFERENCES bill (app_id, bill_id),
    CHECK (rows_of[1] + rows_of[2] + rows_of[3] + rows_of[4] = bill_rows),
    CHECK (movements_of[1] + movements_of[2] + movements_of[3] + movements_of[4] = ledger_movements),
    CHECK (bill_fen_of[1] + bill_fen_of[2] + bill_fen_of[3] + bill_fen_of[4] = bill_net_fen),
    CHECK (ledger_fen_of[1] + ledger_fen_of[2] + ledger_fen_of[3] + ledger_fen_of[4] = ledger_net_fen)
);
CREATE TRIGGER reconciliation_run_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_run
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What did not simply match in a run. Every row and movement not listed here is matched.
CREATE TABLE reconciliation_item (
    app_id       text        NOT NULL,
    day          date        NOT NULL,
    run_no       integer     NOT NULL,
    bucket       text        NOT NULL CHECK (bucket IN ('carried', 'explained', 'open')),
    business     text        NOT NULL,
    trade_no     text        NOT NULL,
    request_no   text        NOT NULL,
    -- 1 for the first row of this identity, 2 and more for its duplicates in the bill.
    ordinal      integer     NOT NULL,
    out_trade_no text        NOT NULL,
    moved_at     timestamptz NOT NULL,
    bill_fen     bigint,
    ledger_fen   bigint,
    -- The neighbouring day on which the other side stands.
    linked_day   date,
    PRIMARY KEY (app_id, day, run_no, business, trade_no, request_no, ordinal),
    FOREIGN KEY (app_id, day, run_no) REFERENCES reconciliation_run (app_id, day, run_no)
);
CREATE TRIGGER reconciliation_item_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_item
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A movement that one side has and the other may still bring: from its day to the next.
CREATE TABLE carry (
    app_id       text        NOT NULL,
    day          date        NOT NULL,
    business     text        NOT NULL,
    trade_no     text        NOT NULL,
    request_no   text        NOT NULL,
    side         text        NOT NULL CHECK (side IN ('bill', 'ledger')),
    out_trade_no text        NOT NULL,
    moved_at     timestamptz NOT NULL,
    amount_fen   bigint      NOT NULL,
    carried_at   timestamptz NOT NULL,
    -- The day whose run settled it, and how.
    settled_day  date,
    settled_as   text        CHECK (settled_as IN ('cleared', 'opened')),
    PRIMARY KEY (app_id, day, business, trade_no, request_no),
    CHECK ((settled_day IS NULL) = (settled_as IS NULL))
);
CREATE INDEX carry_unsettled ON carry (app_id, day) WHERE settled_day IS NULL;

-- One difference, with one identity over all runs.
CREATE TABLE difference (
    app_id        text        NOT NULL,
    difference_id text        NOT NULL,
    day           date        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('missing_in_ledger', 'missing_in_bill', 'amount', 'receipt',
                      'fee', 'order_no', 'status', 'duplicate_in_bill', 'conflict', 'balance', 'settlement')),
    business      text        NOT NULL,
    trade_no      text        NOT NULL,
    request_no    text        NOT NULL,
    out_trade_no  text        NOT NULL,
    bill_fen      bigint,
    ledger_fen    bigint,
    state         text        NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved', 'reopened')),
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (app_id, difference_id)
);
CREATE INDEX difference_day ON difference (app_id, day);

-- Who changed a difference's state, when and why.
CREATE TABLE difference_event (
    app_id        text        NOT NULL,
    difference_id text        NOT NULL,
    event_no      bigint      GENERATED ALWAYS AS IDENTITY,
    to_state      text        NOT NULL CHECK (to_state IN ('open', 'acknowledged', 'resolved', 'reopened')),
    actor         text        NOT NULL,
    reason        text        NOT NULL,
    happened_at   timestamptz NOT NULL,
    PRIMARY KEY (app_id, difference_id, event_no)
);
CREATE TRIGGER difference_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON difference_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
