"""Counts of the data per calendar month, for the stability of the flux: coarse, small, the same axes in every run.

``monthly`` counts selected events in energy and score, ``monthly_cuts`` those that pass all cuts but one. The month
of an event is that of its run (:mod:`processors.period`), so that counts and livetimes belong together. Axes
are fixed by the program and not by the files of a run: a chunk gives the same whatever else is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
import numpy.typing as npt

from processors.binning import category, energy_edges_gev
from processors.chain import Passed
from processors.period import FIRST_MONTH, LAST_MONTH
from processors.score import score_axis

__all__ = ["ALL_CUTS", "MONTHLY", "book_monthly", "fill_monthly", "fill_monthly_cuts", "trimmed"]

Values = npt.NDArray[Any]
Histograms = Mapping[str, hist.Hist[Any]]

MONTHLY = ("monthly", "monthly_cuts")
#: Category of ``monthly_cuts`` with the events that pass every cut.
ALL_CUTS = "selected"
_SCORE_BINS = 80


def book_monthly(
    cuts: Sequence[str], score: str, strategy: str, bgo: Sequence[str], energy_label: str,
    *, extended_bins: bool = False,
) -> dict[str, hist.Hist[Any]]:  # fmt: skip
    """The monthly histograms, empty.

    Args:
        cuts: Names of the cuts.
        score: Score of the card.
        strategy: How omega combines the networks.
        bgo: BGO reconstructions of the run.
        energy_label: Label of the energies in which events are binned.
        extended_bins: Energy bins to 18 TeV.

    Returns:
        Name to histogram. Every third energy edge of the analysis, a score axis of 80 bins.
    """
    edges = energy_edges_gev(extended=extended_bins)
    coarse = [*edges[:37:3], edges[-1]]
    axis = score_axis(score, strategy)
    region = category(["fiducial", "topfiducial"], "region", "region")
    version = category(bgo, "bgo", "BGO reconstruction")
    month = hist.axis.Regular(
        LAST_MONTH + 1 - FIRST_MONTH, FIRST_MONTH, LAST_MONTH + 1,
        name="month", label="months since January 2013",
    )  # fmt: skip
    energy = hist.axis.Variable(coarse, name="energy", label=energy_label)
    corrected = hist.axis.Variable(coarse, name="energy", label="corrected energy (GeV)")
    omega = hist.axis.Regular(_SCORE_BINS, axis.low, axis.high, name="omega", label=axis.label)
    cut = category([ALL_CUTS, *cuts], "cut", "all cuts, or all but this one")
    weight = bh.storage.Weight
    return {
        "monthly": hist.Hist(region, version, month, energy, omega, storage=weight()),
        "monthly_cuts": hist.Hist(region, version, cut, month, corrected, storage=weight()),
    }


def fill_monthly(
    hists: Histograms, months: Values, labels: tuple[str, str], energy: Values, score: Values
) -> None:
    """Count selected data of one chunk.

    Args:
        hists: Those of :func:`book_monthly`.
        months: Month of each event, shape (n,); unknown ones go to the underflow.
        labels: Region and BGO reconstruction.
        energy: GeV, shape (n,).
        score: Score of the card, shape (n,).
    """
    hists["monthly"].fill(*labels, months, energy, score)


def fill_monthly_cuts(
    hists: Histograms, months: Values, labels: tuple[str, str], passed: Passed, e_corr: Values
) -> None:
    """Count the data of one chunk that pass all cuts, and all but each one.

    Args:
        hists: Those of :func:`book_monthly`.
        months: Month of each event of the chunk, shape (n,).
        labels: Region and BGO reconstruction.
        passed: The chain on the chunk.
        e_corr: Corrected energies, GeV, shape (n,).
    """
    for name, mask in ((ALL_CUTS, passed.selected), *passed.n_minus_1.items()):
        rows = np.flatnonzero(mask)
        if rows.size:
            hists["monthly_cuts"].fill(*labels, name, months[rows], e_corr[rows])


def trimmed(hists: Histograms, months: Sequence[int]) -> dict[str, hist.Hist[Any]]:
    """The histograms with the month axes from the first to the last of some months.

    Args:
        hists: Histograms of a run.
        months: Months of its runs, unknown ones left out; without any the monthly histograms are left out.

    Returns:
        The histograms; events outside the months stay in the flow bins.
    """
    kept = {name: h for name, h in hists.items() if name not in MONTHLY}
    inside = [m for m in months if FIRST_MONTH <= m <= LAST_MONTH]
    if not inside:
        return kept
    here = slice(min(inside) - FIRST_MONTH, max(inside) + 1 - FIRST_MONTH)
    for name in MONTHLY:
        if name in hists:
            part: Any = hists[name][{"month": here}]
            kept[name] = part
    return kept
