"""Analytic shapes of the score templates, with parameters that are smooth in energy."""
