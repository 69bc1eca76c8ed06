"""What usage costs, in exact Decimals: no storage, no clock, no edge. The gate imports it, so it stays light."""
