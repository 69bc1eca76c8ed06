"""What usage costs, in exact Decimals: no storage, no clock, no edge. Light, so that the gate can import it."""
