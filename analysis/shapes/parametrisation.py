r"""Score templates as analytic shapes whose parameters are smooth in energy.

Each shape parameter is a natural cubic spline in log10(E/TeV), E the geometric mean of the energy bin; its
coefficients are the values at the knots. All energy bins of a kind are fitted together
(:mod:`analysis.shapes.fit`), so that a bin with few simulated events is held by its neighbours and no bin is
ever empty. Where the forms do not describe the simulation within its errors, χ²/ndf of the merged bins is
above 1 and multiplies the covariance, as the Particle Data Group scales errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import FitNotConvergedError, HistogramMismatchError
from analysis.shapes.fit import Counts, effective_counts, fit_shapes, merged_chi2
from analysis.shapes.forms import Form, cdf
from analysis.shapes.options import Knots, Options
from analysis.shapes.smooth import Goodness, ParametrisationError, Smooth, log_tev, spline_matrix
from analysis.templates import Template

__all__ = [
    "Options",
    "Parametrisation",
    "bin_fits",
    "parametrise",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """Templates of electrons and protons as analytic shapes.

    Attributes:
        region: ``fiducial`` or ``topfiducial``.
        score: name of the score.
        energy_edges: (n_energy + 1,) GeV, the bins that were fitted.
        kinds: ``electron`` and ``proton``.
        meta: where the templates came from.
    """

    region: str
    score: str
    energy_edges: FloatArray
    kinds: Mapping[str, Smooth]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def smooth(self, kind: str) -> Smooth:
        """The shapes of a kind.

        Raises:
            ParametrisationError: another kind than electron or proton.
        """
        if kind not in self.kinds:
            msg = f"no template of kind {kind!r}; there are {', '.join(self.kinds)}"
            raise ParametrisationError(msg)
        return self.kinds[kind]

    def cumulative(self, kind: str, energies_gev: ArrayLike, x: ArrayLike) -> FloatArray:
        """Probability of a score below x.

        Args:
            kind: ``electron`` or ``proton``.
            energies_gev: (n,) GeV.
            x: (m,) or (n, m) scores.

        Returns:
            (n, m), rising from 0 to 1.
        """
        smooth = self.smooth(kind)
        return cdf(smooth.form, x, smooth.parameters(energies_gev))

    def template(self, kind: str, energy_edges: ArrayLike, omega_edges: ArrayLike) -> Template:
        """Template of sum 1 per energy bin, without statistical error.

        Args:
            kind: ``electron`` or ``proton``.
            energy_edges: (n + 1,) GeV; the shape is that at the geometric mean of a bin.
            omega_edges: (m + 1,); what lies outside is in the flow bins.

        Returns:
            Template of n energy bins, variances 0.
        """
        energy = np.asarray(energy_edges, dtype=np.float64)
        omega = np.asarray(omega_edges, dtype=np.float64)
        borders = np.concatenate([[-np.inf], omega, [np.inf]])
        middle = np.sqrt(energy[1:] * energy[:-1])
        values = np.diff(self.cumulative(kind, middle, borders), axis=1)
        return Template(kind, self.region, energy, omega, values, np.zeros_like(values))

    def varied(self, kind: str, direction: int, sigma: float = 1.0) -> Parametrisation:
        """Move one kind along an eigenvector of its covariance.

        Args:
            kind: ``electron`` or ``proton``.
            direction: 0 for the largest eigenvalue; there are ``smooth(kind).coefficients.size``.
            sigma: by how many standard deviations.

        Returns:
            The moved parametrisation.
        """
        smooth = self.smooth(kind)
        return self._moved({kind: sigma * smooth.direction(direction)})

    def drawn(self, rng: np.random.Generator) -> Parametrisation:
        """Draw the coefficients of both kinds from their covariance."""
        steps = {}
        for kind, smooth in self.kinds.items():
            value, vector = np.linalg.eigh(smooth.covariance)
            normal = rng.standard_normal(value.size)
            steps[kind] = vector @ (np.sqrt(np.maximum(value, 0.0)) * normal)
        return self._moved(steps)

    def _moved(self, steps: Mapping[str, FloatArray]) -> Parametrisation:
        kinds = dict(self.kinds)
        for kind, step in steps.items():
            kinds[kind] = replace(kinds[kind], coefficients=kinds[kind].coefficients + step)
        return replace(self, kinds=kinds)


def parametrise(
    electrons: Template,
    protons: Template,
    options: Mapping[str, Options],
    *,
    score: str,
    meta: Mapping[str, Any] | None = None,
) -> Parametrisation:
    """Describe the templates of electrons and protons.

    Args:
        electrons: simulated electrons.
        protons: simulated protons, same region.
        options: ``electron`` and ``proton``; see :mod:`analysis.shapes.options`.
        score: name of the score.
        meta: carried along.

    Returns:
        The parametrisation; ``smooth(kind).goodness.used`` says which bins had enough events.

    Raises:
        HistogramMismatchError: the two templates have different regions or energy bins.
        ParametrisationError: fewer than two bins have enough events.
        FitNotConvergedError: a joint fit found no minimum.
    """
    if electrons.region != protons.region or not np.array_equal(
        electrons.energy_edges, protons.energy_edges
    ):
        msg = (
            f"electrons ({electrons.region}) and protons ({protons.region}) must come from one region "
            "with the same energy bins"
        )
        raise HistogramMismatchError(msg)
    kinds = {
        kind: _fit(template, options[kind])
        for kind, template in (("electron", electrons), ("proton", protons))
    }
    return Parametrisation(
        electrons.region, score, electrons.energy_edges.copy(), kinds, dict(meta or {})
    )


def bin_fits(template: Template, options: Options) -> tuple[FloatArray, FloatArray]:
    """Fit every energy bin alone.

    Args:
        template: one kind.
        options: the form; knots are not used.

    Returns:
        Shape parameters and their errors, (n_energy, p); NaN where the bin was left out or its fit
        did not converge.
    """
    counts = effective_counts(template)
    names = options.form.names
    found = np.full((counts.n.shape[0], len(names)), np.nan)
    errors = found.copy()
    for i in np.flatnonzero(counts.n.sum(axis=1) >= options.min_effective):
        value, information = _alone(counts.rows(np.array([i])), options)
        if value is not None:
            found[i], errors[i] = value, np.sqrt(np.diag(information))
    return found, errors


def _alone(counts: Counts, options: Options) -> tuple[FloatArray | None, FloatArray]:
    """Parameters of one energy bin and their covariance, None if there is no minimum."""
    start = _start(counts, options.form)
    one = [np.ones((1, 1))] * start.size
    fit = fit_shapes(counts, options.form, one, start, start, _widths(start.size, options))
    return (fit.coefficients if fit.converged else None), fit.covariance


def _fit(template: Template, options: Options) -> Smooth:
    """Joint fit of one kind, started from the fits of its bins."""
    counts = effective_counts(template)
    effective = counts.n.sum(axis=1)
    used = effective >= options.min_effective
    if used.sum() < 2:
        msg = (
            f"{template.kind} template, {template.region}: {int(used.sum())} energy bins have "
            f"{options.min_effective:g} effective events; simulate more"
        )
        raise ParametrisationError(msg)
    rows = np.flatnonzero(used)
    x = log_tev(np.sqrt(template.energy_edges[1:] * template.energy_edges[:-1]))
    knots = tuple(
        _knots(name, options.knots.get(name, options.default_knots), x[used])
        for name in options.form.names
    )
    design = [spline_matrix(k, x[used]) for k in knots]
    chosen = counts.rows(rows)
    starts = np.stack([_start(counts.rows(np.array([i])), options.form) for i in rows])
    centre = np.concatenate([np.full(len(k), np.median(starts[:, i])) for i, k in enumerate(knots)])
    width = np.repeat(_widths(len(knots), options), [len(k) for k in knots])
    begin = _smoothed(chosen, options, design, starts, centre)
    fit = fit_shapes(chosen, options.form, design, begin, centre, width)
    if not fit.converged:
        msg = (
            f"{template.kind} template, {template.region}: the joint fit of {rows.size} bins and "
            f"{begin.size} coefficients found no minimum; take fewer knots or another form"
        )
        raise FitNotConvergedError(msg)
    chi2, ndf = np.full(used.size, np.nan), np.zeros(used.size)
    for i, n, m in zip(rows, chosen.n, fit.expected, strict=True):
        chi2[i], bins, _ = merged_chi2(n, m)
        ndf[i] = bins - 1
    free = max(1.0, ndf.sum() - begin.size)
    scale = max(1.0, float(np.nansum(chi2)) / free)
    return Smooth(
        form=options.form,
        knots=knots,
        coefficients=fit.coefficients,
        covariance=fit.covariance * scale,
        scale=scale,
        goodness=Goodness(effective, chi2, ndf, used),
    )


def _smoothed(
    counts: Counts,
    options: Options,
    design: list[FloatArray],
    starts: FloatArray,
    centre: FloatArray,
) -> FloatArray:
    """Coefficients nearest to the fits of the single bins, each with its errors."""
    values, variances = starts.copy(), np.ones_like(starts)
    for i in range(len(starts)):
        found, covariance = _alone(counts.rows(np.array([i])), options)
        if found is not None:
            values[i], variances[i] = found, np.diag(covariance)
    out, first = [], 0
    for p, matrix in enumerate(design):
        near = centre[first : first + matrix.shape[1]]
        first += matrix.shape[1]
        weight = 1.0 / (variances[:, p] + 0.01)[:, None]
        # a weak pull to the centre: knots may outnumber the bins that say something
        normal = matrix.T @ (weight * matrix) + 1e-3 * np.eye(near.size)
        out.append(np.linalg.solve(normal, matrix.T @ (weight[:, 0] * values[:, p]) + 1e-3 * near))
    return np.concatenate(out)


def _knots(name: str, wanted: Knots, x: FloatArray) -> tuple[float, ...]:
    """Knots in log10(E/TeV)."""
    if isinstance(wanted, int):
        if wanted < 1:
            msg = f"{name}: at least one knot is needed, got {wanted}"
            raise ParametrisationError(msg)
        return tuple(np.linspace(x.min(), x.max(), min(wanted, x.size)).tolist())
    if not wanted or min(wanted) <= 0 or list(wanted) != sorted(set(wanted)):
        msg = f"{name}: knots are ascending energies in GeV, got {wanted}"
        raise ParametrisationError(msg)
    low, high = float(x.min()), float(x.max())
    room = 0.2 * (high - low) / len(x)
    inside = [k for k in log_tev(wanted).tolist() if low + room < k < high - room]
    return (low, *inside, high)


def _widths(parameters: int, options: Options) -> FloatArray:
    """Constraints: none on the mode, that of the options on logarithms."""
    return np.array([np.inf, *[options.constraint] * (parameters - 1)])


def _start(counts: Counts, form: Form) -> FloatArray:
    """Shape parameters of one energy bin from the quantiles of its distribution."""
    n, inner = counts.n[0], counts.borders[1:-1]
    middle = np.concatenate([inner[:1], 0.5 * (inner[1:] + inner[:-1]), inner[-1:]])
    step = float(np.diff(inner).min())
    share = np.cumsum(n) / n.sum()
    low, half, high = (float(middle[np.searchsorted(share, q)]) for q in (0.16, 0.5, 0.84))
    end = {
        "left": float(middle[np.searchsorted(share, 0.001)]),
        "right": float(middle[min(np.searchsorted(share, 0.999), n.size - 1)]),
    }
    sigma = {"left": max(half - low, step), "right": max(high - half, step)}
    out = [half, *np.log([sigma["left"], sigma["right"]]), *np.log([1.5, 1.5])]
    for side, breaks in (("left", form.left_breaks), ("right", form.right_breaks)):
        reach = max(abs(end[side] - half) - 1.5 * sigma[side], 3 * sigma[side])
        for _ in range(breaks):
            out += [np.log(reach / (breaks + 1)), np.log(3.0 / reach)]
    return np.array(out)
