"""Tollgate: usage metering, quota enforcement and Stripe billing for AI apps."""
