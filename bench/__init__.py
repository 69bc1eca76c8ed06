"""`make bench`: the budgets, counted on the product itself. Never shipped; the product imports nothing of it."""
