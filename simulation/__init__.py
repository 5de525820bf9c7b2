"""Parametric DAMPE Monte Carlo that writes ntuples of the experiment's form (synthetic data)."""
