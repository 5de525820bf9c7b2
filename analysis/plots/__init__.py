"""Figures from the containers of the analysis; the only place that knows matplotlib and mplhep.

Each function takes results and a path without suffix, writes a PNG and a PDF and returns their paths.
Error bars are always given, never left to the defaults of a library.
"""

from analysis.plots.display import plot_event
from analysis.plots.energies import plot_acceptance, plot_cut_flow, plot_efficiency_and_background
from analysis.plots.regions import plot_region_acceptance, plot_region_fluxes
from analysis.plots.report import draw_run
from analysis.plots.resolution import plot_energy_reconstruction
from analysis.plots.scoregain import plot_score_gain
from analysis.plots.scores import plot_control, plot_score_bins, plot_score_overview
from analysis.plots.spectra import plot_flux
from analysis.plots.style import SYNTHETIC_LABEL, PlotError

__all__ = [
    "SYNTHETIC_LABEL",
    "PlotError",
    "draw_run",
    "plot_acceptance",
    "plot_control",
    "plot_cut_flow",
    "plot_efficiency_and_background",
    "plot_energy_reconstruction",
    "plot_event",
    "plot_flux",
    "plot_region_acceptance",
    "plot_region_fluxes",
    "plot_score_bins",
    "plot_score_gain",
    "plot_score_overview",
]
