"""`make demo`: replays a trace of LLM usage against a running stack and checks what Stripe was told."""
