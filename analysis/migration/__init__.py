"""Energy migration: response, bin-by-bin factors, forward folding, iterative unfolding."""
