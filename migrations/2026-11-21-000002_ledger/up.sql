-- What is held to be true. Every key starts with app_id, so that the database can be spread by it.

-- How far the consumer has come in each partition of the log. Written in the transaction of its effect,
-- and only by whoever still knows the previous value: a consumer that lost its partition cannot write.
CREATE TABLE log_position (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (topic, partition)
);

-- Every genuine message with its signed bytes, exactly once per place in the log.
CREATE TABLE inbox (
    app_id        text        NOT NULL,
    log_topic     text        NOT NULL,
    log_partition integer     NOT NULL,
    log_offset    bigint      NOT NULL,
    notify_id     text        NOT NULL,
    kind          text        NOT NULL,
    source        text        NOT NULL CHECK (source IN ('notification', 'query')),
    outcome       text        NOT NULL CHECK (outcome IN ('applied', 'kept', 'duplicate')),
    trade_no      text,
    out_trade_no  text,
    received_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    body          bytea       NOT NULL,
    PRIMARY KEY (app_id, log_topic, log_partition, log_offset)
);
-- One notification has its effect once, whatever the partition it was delivered to.
CREATE UNIQUE INDEX inbox_notify_id ON inbox (app_id, notify_id) WHERE outcome <> 'duplicate';
CREATE INDEX inbox_trade_no ON inbox (app_id, trade_no);

-- Genuine messages that failed a check: kept with their bytes and the reason.
CREATE TABLE quarantine (
    app_id        text        NOT NULL,
    log_topic     text        NOT NULL,
    log_partition integer     NOT NULL,
    log_offset    bigint      NOT NULL,
    reason        text        NOT NULL,
    received_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    body          bytea       NOT NULL,
    PRIMARY KEY (app_id, log_topic, log_partition, log_offset)
);

-- Messages of the log that could not be applied: kept with their bytes and the reason.
CREATE TABLE dead_letter (
    app_id        text        NOT NULL,
    log_topic     text        NOT NULL,
    log_partition integer     NOT NULL,
    log_offset    bigint      NOT NULL,
    reason        text        NOT NULL,
    detail        text        NOT NULL,
    received_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    body          bytea       NOT NULL,
    PRIMARY KEY (app_id, log_topic, log_partition, log_offset)
);

-- What was told about a trade. A set: the digest is the fact's content.
CREATE TABLE fact (
    app_id       text        NOT NULL,
    trade_no     text        NOT NULL,
    digest       bytea       NOT NULL CHECK (octet_length(digest) = 16),
    out_trade_no text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('created', 'paid', 'refunded', 'closed', 'finished')),
    request_no   text,
    total_fen    bigint      CHECK (total_fen >= 0),
    receipt_fen  bigint      CHECK (receipt_fen >= 0),
    reported_fen bigint      CHECK (reported_fen >= 0),
    reported_as  text        CHECK (reported_as IN ('cumulative', 'single')),
    told_at      timestamptz,
    source       text        NOT NULL CHECK (source IN ('notification', 'query', 'bill')),
    recorded_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, trade_no, digest),
    CHECK ((kind = 'refunded') = (request_no IS NOT NULL)),
    CHECK ((kind = 'refunded') = (reported_fen IS NOT NULL AND reported_as IS NOT NULL)),
    CHECK (kind NOT IN ('created', 'paid') OR total_fen IS NOT NULL)
);

-- The state of a trade: the fold over its facts, recomputed whenever a fact is added.
CREATE TABLE trade (
    app_id        text        NOT NULL,
    trade_no      text        NOT NULL,
    out_trade_no  text        NOT NULL,
    state         text        NOT NULL CHECK (state IN ('waiting', 'paid', 'refunded', 'closed', 'finished')),
    total_fen     bigint,
    receipt_fen   bigint,
    receipt_known boolean     NOT NULL DEFAULT false,
    refunded_fen  bigint      NOT NULL DEFAULT 0,
    created_at    timestamptz,
    paid_at       timestamptz,
    closed_at     timestamptz,
    has_conflict  boolean     NOT NULL DEFAULT false,
    -- What finance should look at though no two messages contradict each other.
    doubt         text,
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (app_id, trade_no),
    CHECK (receipt_fen <= total_fen)
);
CREATE INDEX trade_out_trade_no ON trade (app_id, out_trade_no);
CREATE INDEX trade_paid_at ON trade (app_id, paid_at) WHERE paid_at IS NOT NULL;

-- One refund of a trade. A notification tells the trade's cumulative refund: the amount is the step from the
-- refund before, and stays unconfirmed until the bill or the refund query says the same.
CREATE TABLE refund (
    app_id       text        NOT NULL,
    trade_no     text        NOT NULL,
    request_no   text        NOT NULL,
    amount_fen   bigint      NOT NULL CHECK (amount_fen >= 0),
    receipt_fen  bigint      NOT NULL,
    confirmed    boolean     NOT NULL,
    refunded_at  timestamptz NOT NULL,
    has_conflict boolean     NOT NULL,
    PRIMARY KEY (app_id, trade_no, request_no)
);
CREATE INDEX refund_refunded_at ON refund (app_id, refunded_at);

-- The same fact told with different values. Every value told stands here, none is overwritten;
-- while they disagree the ledger books the smallest.
CREATE TABLE conflict (
    app_id      text        NOT NULL,
    trade_no    text        NOT NULL,
    subject     text        NOT NULL CHECK (subject IN ('total', 'receipt', 'refund', 'out_trade_no')),
    request_no  text        NOT NULL,
    told        text        NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, trade_no, subject, request_no, told)
);

-- Double entry. Debits are positive, credits negative; the lines of an entry sum to zero.
CREATE TABLE journal_entry (
    app_id      text        NOT NULL,
    entry_id    bigint      GENERATED ALWAYS AS IDENTITY,
    trade_no    text        NOT NULL,
    -- Empty for the payment, else the refund's number.
    request_no  text        NOT NULL,
    -- 'booked' for a movement's first entry, 'corrected' for the difference a later fact made.
    reason      text        NOT NULL CHECK (reason IN ('booked', 'corrected')),
    moved_at    timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, entry_id)
);
CREATE INDEX journal_entry_trade_no ON journal_entry (app_id, trade_no);

CREATE TABLE journal_line (
    app_id     text   NOT NULL,
    entry_id   bigint NOT NULL,
    account    text   NOT NULL CHECK (account IN ('alipay:clearing', 'merchant:discount', 'sales')),
    amount_fen bigint NOT NULL CHECK (amount_fen <> 0),
    PRIMARY KEY (app_id, entry_id, account),
    FOREIGN KEY (app_id, entry_id) REFERENCES journal_entry (app_id, entry_id)
);

-- Zero sum, checked once per statement over the entries it touched: whoever writes lines writes an entry
-- whole. (A deferred constraint trigger would say the same a row at a time; measured 500 entries a
-- transaction, that is most of the transaction.)
CREATE FUNCTION journal_line_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced record;
BEGIN
    SELECT app_id, entry_id, sum(amount_fen) AS remainder_fen INTO unbalanced
      FROM journal_line
     WHERE (app_id, entry_id) IN (SELECT app_id, entry_id FROM added)
     GROUP BY app_id, entry_id
    HAVING sum(amount_fen) <> 0
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal entry % of app % does not sum to zero: % fen remain',
            unbalanced.entry_id, unbalanced.app_id, unbalanced.remainder_fen
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER journal_line_zero_sum AFTER INSERT ON journal_line
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION journal_line_zero_sum();

-- Append-only. Corrections are new entries.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'A correction is a new entry.';
END $$;
CREATE TRIGGER fact_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fact
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER conflict_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON conflict
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_line_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_line
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What moved money, as the bill would list it: payments and refunds with the bill's signs.
CREATE VIEW movement AS
    SELECT app_id, trade_no, 'payment'::text AS business, ''::text AS request_no, out_trade_no,
           paid_at AS moved_at, total_fen, receipt_fen, receipt_known AS figures_known, has_conflict
      FROM trade
     WHERE paid_at IS NOT NULL
    UNION ALL
    SELECT r.app_id, r.trade_no, 'refund'::text, r.request_no, t.out_trade_no,
           r.refunded_at, -r.amount_fen, -r.receipt_fen, r.confirmed, r.has_conflict
      FROM refund r JOIN trade t USING (app_id, trade_no);
