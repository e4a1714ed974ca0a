DROP TABLE difference_event, difference, carry, reconciliation_item, reconciliation_run, bill_row, bill;
