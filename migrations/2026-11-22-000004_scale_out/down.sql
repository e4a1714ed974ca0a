DROP INDEX dead_letter_place;
DROP TABLE dead_letter_replay;
DROP TABLE outbox;
ALTER TABLE log_record DROP COLUMN kind, DROP COLUMN sequence;
ALTER TABLE log_position RESET (fillfactor);
ALTER TABLE log_position DROP COLUMN epoch;
