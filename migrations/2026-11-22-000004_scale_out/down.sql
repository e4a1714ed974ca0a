ALTER TABLE journal_line
    ADD CONSTRAINT journal_line_app_id_entry_id_fkey
    FOREIGN KEY (app_id, entry_id) REFERENCES journal_entry (app_id, entry_id);
CREATE OR REPLACE FUNCTION journal_line_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
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
ALTER TABLE dead_letter ALTER COLUMN body SET STORAGE EXTENDED;
ALTER TABLE quarantine ALTER COLUMN body SET STORAGE EXTENDED;
ALTER TABLE inbox ALTER COLUMN body SET STORAGE EXTENDED;
DROP INDEX dead_letter_place;
DROP TABLE dead_letter_replay;
DROP TABLE outbox;
ALTER TABLE log_record DROP COLUMN kind, DROP COLUMN sequence;
ALTER TABLE log_position RESET (fillfactor);
ALTER TABLE log_position DROP COLUMN epoch;
