"""Fit of score templates to the data, with a proton shift that depends on energy."""

from analysis.templatefit.fit import fit_templates
from analysis.templatefit.problem import FitSettings
from analysis.templatefit.result import FitResult

__all__ = ["FitResult", "FitSettings", "fit_templates"]
