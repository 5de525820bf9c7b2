"""Spectral models, their fits to a flux, and the significance of a break."""
