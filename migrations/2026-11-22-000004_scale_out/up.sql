-- Several consumers over one ledger, and what the ledger tells the world.

-- Who may move a position: whoever raised its epoch last. Raised by every claim, so that a consumer that lost its
-- partition while it slept cannot write, even where the offsets still fit.
ALTER TABLE log_position ADD COLUMN epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0);
ALTER TABLE log_position SET (fillfactor = 10); -- updated with every batch: room on the page keeps the updates there

-- What the log's records tell, and the order of the ledger's own events. NULL in records of the version before.
ALTER TABLE log_record ADD COLUMN kind text, ADD COLUMN sequence bigint;

-- What the ledger has yet to tell the log: written in the transaction of the effect, removed when the log has it.
-- A queue over all apps, read from its head: the one key here that does not begin with app_id.
CREATE TABLE outbox (
    -- Taken under the lock of the trade or the difference it is about: its events commit in this order.
    outbox_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id      text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('suanpan.trade.paid', 'suanpan.trade.refunded',
                    'suanpan.trade.closed', 'suanpan.trade.corrected', 'suanpan.trade.conflict',
                    'suanpan.difference.opened', 'suanpan.difference.resolved', 'suanpan.message.dead')),
    -- Made of what is told: the same however often it is sent.
    event_id    text        NOT NULL,
    -- Events of one key are sent one after the other.
    key         text        NOT NULL,
    -- A JSON object. A dead letter's bytes stand in dead_letter, at the place that event_id names.
    body        text        CHECK ((body IS NULL) = (kind = 'suanpan.message.dead')),
    recorded_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000); -- its head is emptied all the time

-- A dead letter that was put back into the log: where, by whom and when. The letter itself stays.
CREATE TABLE dead_letter_replay (
    app_id        text        NOT NULL,
    log_topic     text        NOT NULL,
    log_partition integer     NOT NULL,
    log_offset    bigint      NOT NULL,
    replay_no     bigint      GENERATED ALWAYS AS IDENTITY,
    new_topic     text        NOT NULL,
    new_partition integer     NOT NULL,
    new_offset    bigint      NOT NULL,
    actor         text        NOT NULL,
    replayed_at   timestamptz NOT NULL,
    PRIMARY KEY (app_id, log_topic, log_partition, log_offset, replay_no),
    FOREIGN KEY (app_id, log_topic, log_partition, log_offset) REFERENCES dead_letter
);
CREATE TRIGGER dead_letter_replay_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_replay
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- People name a dead letter by its place alone.
CREATE INDEX dead_letter_place ON dead_letter (log_topic, log_partition, log_offset);

-- Kept as they are, as in log_record: the server does not try to compress what leaves its page.
ALTER TABLE inbox ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE quarantine ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE dead_letter ALTER COLUMN body SET STORAGE EXTERNAL;

-- Zero sum, from the lines of the statement alone: when every statement adds zero to an entry, every entry is zero.
-- And every line has its entry, which a foreign key would look up a line at a time.
CREATE OR REPLACE FUNCTION journal_line_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT app_id, entry_id, sum(amount_fen) AS remainder_fen INTO wrong
      FROM added
     GROUP BY app_id, entry_id
    HAVING sum(amount_fen) <> 0
        OR NOT EXISTS (SELECT 1 FROM journal_entry e
                        WHERE e.app_id = added.app_id AND e.entry_id = added.entry_id OFFSET 0) -- by its key
     LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF wrong.remainder_fen <> 0 THEN
        RAISE EXCEPTION 'journal entry % of app % does not sum to zero: % fen remain',
            wrong.entry_id, wrong.app_id, wrong.remainder_fen
            USING ERRCODE = 'check_violation';
    END IF;
    RAISE EXCEPTION 'journal entry % of app % is not there: its lines cannot stand alone',
        wrong.entry_id, wrong.app_id
        USING ERRCODE = 'foreign_key_violation';
END $$;
-- Entries are never removed, so what the lines were checked against stays.
ALTER TABLE journal_line DROP CONSTRAINT journal_line_app_id_entry_id_fkey;
