"""Reconciliation: events, batches, the sink's totals and invoice lines side by side; differences classed, repaired."""
