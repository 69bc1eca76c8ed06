"""The local stack: what template.yaml describes, on one machine. Never deployed; the product never imports it."""
