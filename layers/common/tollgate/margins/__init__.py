"""What accounts cost at their providers against what they bring."""
