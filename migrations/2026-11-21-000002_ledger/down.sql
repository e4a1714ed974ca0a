DROP VIEW movement;
DROP TABLE journal_line, journal_entry, conflict, refund, trade, fact, dead_letter, quarantine, inbox, log_position;
DROP FUNCTION journal_line_zero_sum();
DROP FUNCTION refuse_change();
