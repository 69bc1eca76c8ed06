"""The catalogue: meters, plans, prices, limits. `model` is what the gate imports; `schema` reads `catalog.yaml`."""
