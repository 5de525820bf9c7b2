"""Toy models, and the runs drawn from them."""
