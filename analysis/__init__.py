"""Histograms to physics: acceptance, efficiency, background, flux, tables, figures."""
