r"""Systematic errors of the flux: each source varied, the change of the flux its error.

A variation that leaves other events (edge cut, BGO reconstruction, cut) also fluctuates. Of two measurements on
nested samples the difference has the variance :math:`|\sigma_1^2 - \sigma_2^2|` (R. Barlow,
hep-ex/0207026); only what exceeds it counts, :math:`\sqrt{\max(\Delta^2 - \sigma_\Delta^2, 0)}`. In bins with few
events this hides small effects: ``meta["systematics"]`` names the bins in which a source could not be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from hist import Hist, axis
from numpy.typing import NDArray

from analysis.cutstability import cut_systematic
from analysis.exceptions import AnalysisError
from analysis.fluxsettings import FluxSettings
from analysis.fluxtable import FluxTable
from analysis.measurement import File, Hists, Measurement, measure, scan
from analysis.selection import project
from analysis.shapes.options import options_for
from analysis.shapes.parametrisation import parametrise
from analysis.templates import template

__all__ = ["Sources", "with_systematics"]

FloatArray = NDArray[np.float64]
Variation = tuple[str, Callable[[], list[FloatArray]]]

_SLOPE_POINTS = 7  # flux points that give the local spectral index
_ENOUGH = 1e7  # effective events of a template without statistical error


@dataclass(frozen=True)
class Sources:
    """Which systematic errors are evaluated; 0, False and empty leave a source out.

    Attributes:
        acceptance: relative error of the acceptance beyond the statistics of the simulation.
        livetime: relative error of the livetime.
        energy_scale: relative error of the energy scale.
        cut_efficiency: relative change of the efficiency by which the cut is moved.
        shift_model: the shift one order higher, a free width, a curve through single bins.
        template_shape: templates drawn from the parametrisation of the shapes.
        bgo: the other BGO reconstruction of the file.
        edge: the edge cut off.
        proton_spectra: the proton templates of the file for other spectra.
        files: source → histograms and metadata of a file whose simulation stands for that of the run.
        seed: of the drawn templates.
    """

    acceptance: float = 0.0
    livetime: float = 0.0
    energy_scale: float = 0.0
    cut_efficiency: float = 0.1
    shift_model: bool = True
    template_shape: int = 20
    bgo: bool = True
    edge: bool = True
    proton_spectra: bool = True
    files: Mapping[str, File] = field(default_factory=dict)
    seed: int = 1


def with_systematics(
    hists: Hists,
    meta: Mapping[str, Any],
    settings: FluxSettings,
    sources: Sources,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Measure the flux and add the systematic errors to its table.

    Args:
        hists: histograms of a file, all edge cuts and reconstructions.
        meta: its metadata.
        settings: how the flux is measured.
        sources: which errors.
        tell: called with the name of each source that is varied.

    Returns:
        The measurement; its table has the columns ``sys_<source>_n/p``.

    Raises:
        AnalysisError: as :func:`analysis.measurement.measure`; a source that cannot be evaluated at all is
            named with the reason in ``meta["systematics"]["left_out"]`` instead, unless it is a file.
    """
    nominal = measure(hists, meta, settings)
    held = replace(settings, cut=nominal.cut, cut_efficiency=None, control=nominal.control)
    file = hists, meta
    variations = _variations(nominal, held, file, sources)
    changes: dict[str, list[FloatArray]] = {}
    notes: dict[str, Any] = {"left_out": {}, "not_evaluated_bins": {}, "fits": {}}
    for name, vary in variations:
        tell(name)
        try:
            changes.setdefault(name, []).extend(vary())
        except AnalysisError as error:
            notes["left_out"][name] = str(error)
    for name, simulation in sources.files.items():
        tell(name)
        other = measure(hists, meta, held, simulation=simulation)
        if other.fit is not None:
            notes["fits"][name] = [float(np.nansum(other.fit.deviance)), other.fit.ndf]
        changes[name] = [_unless_noise(nominal, other)]
    table = _with_changes(nominal.table, changes, notes)
    for name, relative in (
        ("acceptance_scale", sources.acceptance),
        ("livetime", sources.livetime),
    ):
        if relative:
            part = relative * np.abs(table.dnde)
            table = table.with_systematic(name, part, part)
    if sources.energy_scale:
        try:
            table = _energy_scale(table, sources.energy_scale)
        except AnalysisError as error:
            notes["left_out"]["energy_scale"] = str(error)
    return replace(nominal, table=replace(table, meta={**table.meta, "systematics": notes}))


def _variations(
    nominal: Measurement, held: FluxSettings, file: File, sources: Sources
) -> list[Variation]:
    """What is varied inside the file itself: source and how to get the changes of the flux."""
    variations: list[Variation] = []
    if sources.cut_efficiency:
        variations.append(("cut", partial(_cut, nominal, held, sources.cut_efficiency)))
    if sources.shift_model and held.method == "fit" and held.fit.fixed is None:
        variations.append(("shift_model", partial(_shift_models, nominal, held, file)))
    if sources.template_shape:
        variations.append(("template_shape", partial(_shapes, nominal, held, file, sources)))
    if sources.edge and held.edge == "on":
        variations.append(("edge", partial(_other, nominal, held, file, {"edge": "off"})))
    if sources.bgo:
        others = _other_reconstructions(file[0], nominal)
        variations += [("bgo", partial(_other, nominal, held, file, {"bgo": o})) for o in others]
    if sources.proton_spectra:
        for name, spectra in _spectra(_other_spectra(file, held)).items():
            by_weight = partial(_protons, nominal, held, file, spectra)
            variations.append((f"proton_{name}", by_weight))
    return variations


def _other(
    nominal: Measurement, settings: FluxSettings, file: File, change: Mapping[str, Any]
) -> list[FloatArray]:
    """Another edge cut or reconstruction."""
    other = measure(*file, replace(settings, **change))
    if np.array_equal(other.data.values, nominal.data.values):
        msg = f"the data are the same with {', '.join(f'{k} {v}' for k, v in change.items())}"
        raise AnalysisError(msg)
    return [_nested(nominal.table, other.table)]


def _with_changes(
    table: FluxTable, changes: Mapping[str, list[FloatArray]], notes: dict[str, Any]
) -> FluxTable:
    """Columns of the largest changes of each source, downwards and upwards."""
    for name, steps in changes.items():
        if not steps:
            continue
        stack = np.stack(steps)
        missing = table.success & (~np.isfinite(stack).any(axis=0) | (table.dnde == 0))
        if missing.any():
            notes["not_evaluated_bins"][name] = np.flatnonzero(missing)
        low, high = (
            np.max(np.nan_to_num(sign * stack), axis=0, initial=0.0) + 0.0 for sign in (-1, 1)
        )
        table = table.with_systematic(
            name, *(np.where(table.success, x, np.nan) for x in (low, high))
        )
    return table


def _energy_scale(table: FluxTable, relative: float) -> FluxTable:
    """A wrong energy scale moves a flux E^-g by (1 ± d)^(g - 1) - 1, with the local index of the table."""
    good = table.success & (table.dnde > 0)
    if good.sum() < 3:
        msg = "fewer than three positive flux points: the energy scale needs a spectral index"
        raise AnalysisError(msg)
    x, y = np.log(table.e_ref[good]), np.log(table.dnde[good])
    weight = (table.dnde / np.maximum(table.dnde_errn + table.dnde_errp, 1e-3 * table.dnde))[good]
    index = np.zeros(len(table))
    for i, at in enumerate(np.log(table.e_ref)):
        near = np.argsort(np.abs(x - at), kind="stable")[:_SLOPE_POINTS]
        index[i] = -np.polynomial.Polynomial.fit(x[near], y[near], 1, w=weight[near]).deriv()(at)
    change = [np.abs((1.0 + sign * relative) ** (index - 1.0) - 1.0) for sign in (-1, 1)]
    size = np.abs(table.dnde)
    return table.with_systematic("energy_scale", size * change[0], size * change[1])


def _cut(nominal: Measurement, settings: FluxSettings, relative: float) -> list[FloatArray]:
    """Half spread of the flux when the cut moves, less its fluctuation."""
    found = cut_systematic(scan(nominal, index=settings.index), nominal.cut, relative)
    half = found.excess * np.abs(nominal.table.dnde)
    return [half, -half]


def _shift_models(nominal: Measurement, settings: FluxSettings, file: File) -> list[FloatArray]:
    """Other functions for shift and width on the same events."""
    fit = settings.fit
    order = (nominal.fit.settings["shift_order"] if nominal.fit else None) or 0
    others = [replace(fit, shift_order=min(order + 1, 3))]
    if fit.width_order is None:
        others.append(replace(fit, shift_order=order, width_order=0))
    others.append(replace(fit, shift_order=order, method="smooth"))
    return [
        measure(*file, replace(settings, fit=other)).table.dnde - nominal.table.dnde
        for other in others
    ]


def _shapes(
    nominal: Measurement,
    settings: FluxSettings,
    file: File,
    sources: Sources,
) -> list[FloatArray]:
    """Analytic templates instead of the simulated ones, and their coefficients within the covariance."""
    score = str(nominal.table.meta["flux"]["score"])
    shapes = parametrise(nominal.electrons, nominal.protons, options_for(score), score=score)

    def with_protons(drawn: Any) -> FloatArray:
        analytic = drawn.template("proton", nominal.data.energy_edges, nominal.data.omega_edges)
        total = nominal.protons.total().value[:, None]
        exact = replace(
            analytic,
            region=nominal.protons.region,
            values=analytic.values * total,
            variances=analytic.values * total**2 / _ENOUGH,
        )
        return np.asarray(measure(*file, settings, replaced={"proton": exact}).table.dnde)

    middle = with_protons(shapes)
    rng = np.random.default_rng(sources.seed)
    drawn = np.stack([with_protons(shapes.drawn(rng)) for _ in range(sources.template_shape)])
    spread = np.sqrt(np.mean((drawn - middle) ** 2, axis=0))
    own = nominal.background.parts.get("template", np.zeros(middle.shape))
    noise = np.abs(nominal.table.dnde) * np.nan_to_num(own)
    apart = _beyond(middle - nominal.table.dnde, noise)
    both = np.hypot(apart, spread)
    return [both, -both]


def _protons(
    nominal: Measurement,
    settings: FluxSettings,
    file: File,
    spectra: list[str],
) -> list[FloatArray]:
    """Proton templates that the run filled for other spectra: the same events, other weights."""
    part = _other_spectra(file, settings)
    steps = []
    for spectrum in spectra:
        other: Hist[Any] = part["score_spectra"][{"spectrum": spectrum}]  # type: ignore[assignment]
        protons = template(_as_kind(other), "proton", settings.region)
        again = measure(*file, settings, replaced={"proton": protons})
        steps.append(again.table.dnde - nominal.table.dnde)
    return steps


def _other_spectra(file: File, settings: FluxSettings) -> Mapping[str, Hist[Any]]:
    """Histograms with the choices of the settings; templates for other spectra only of the card's score."""
    return project(*file, edge=settings.edge, bgo=settings.bgo, score=settings.score_name)[0]


def _as_kind(histogram: Hist[Any]) -> Hist[Any]:
    """A histogram of protons with an axis that says so."""
    kind = axis.StrCategory(["proton"], name="kind")
    out: Hist[Any] = Hist(kind, *histogram.axes, storage=histogram.storage_type())
    out.view(flow=True)[0] = histogram.view(flow=True)
    return out


def _spectra(hists: Hists) -> dict[str, list[str]]:
    """Source → spectra of the run; ``x_up`` and ``x_down`` are the two sides of x."""
    found: dict[str, list[str]] = {}
    if "score_spectra" in hists:
        for name in hists["score_spectra"].axes["spectrum"]:
            found.setdefault(str(name).removesuffix("_up").removesuffix("_down"), []).append(
                str(name)
            )
    return found


def _other_reconstructions(hists: Hists, nominal: Measurement) -> list[str]:
    used = nominal.table.meta["flux"]["bgo_reconstruction"]
    axes = [a for a in hists["score"].axes if a.name == "bgo"]
    return [str(name) for a in axes for name in a if str(name) != used]


def _nested(first: FluxTable, second: FluxTable) -> FloatArray:
    """Difference of two fluxes on nested samples, less its fluctuation."""
    errors = [np.hypot(t.dnde_errn, t.dnde_errp) / np.sqrt(2.0) for t in (first, second)]
    return _beyond(second.dnde - first.dnde, np.sqrt(np.abs(errors[0] ** 2 - errors[1] ** 2)))


def _unless_noise(nominal: Measurement, other: Measurement) -> FloatArray:
    """Difference by another simulation, less the statistics of both."""
    noise: FloatArray = np.zeros(len(nominal.table))
    for found in (nominal, other):
        parts = [
            found.background.parts.get(k, np.zeros(noise.shape)) for k in ("template", "shift")
        ]
        relative = [np.nan_to_num(p) for p in parts]
        relative.append(np.nan_to_num(found.acceptance.error / found.acceptance.value))
        noise = noise + sum((r * found.table.dnde) ** 2 for r in relative)
    return _beyond(other.table.dnde - nominal.table.dnde, np.sqrt(noise))


def _beyond(change: FloatArray, fluctuation: FloatArray) -> FloatArray:
    """What of a change exceeds its fluctuation, with its sign."""
    return np.asarray(np.sign(change) * np.sqrt(np.maximum(change**2 - fluctuation**2, 0.0)))
