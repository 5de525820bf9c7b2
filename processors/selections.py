"""Named cuts: one small function each, from fields of the ntuple to a mask.

The positional parameters of a cut are canonical fields (``processors.ntuple.FIELDS``), its keyword-only
parameters the values that a card may set; both are read off the signature, so a cut is declared once.
Definitions and default values: the collaboration's cut flow as stated in ``docs/physics.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from processors import showers
from processors.exceptions import SelectionError
from processors.geometry import (
    BGO_BOTTOM_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    in_square,
)
from processors.ntuple import Ntuple

__all__ = ["CUTS", "REGIONS", "Cut", "Passed", "check_order", "cut_fields", "evaluate", "make_cut"]

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]


def saa(outside_saa: Mask) -> Mask:
    """Outside the South Atlantic Anomaly (selection bit 0 set)."""
    return outside_saa


def trigger(he_trigger: Mask) -> Mask:
    """High-energy trigger (selection bit 1)."""
    return he_trigger


def energy_range(e_corr: Values, *, min_gev: float = 10.0, max_gev: float = 10_000.0) -> Mask:
    """Corrected energy within bounds; NaN fails."""
    return np.asarray((e_corr >= min_gev) & (e_corr < max_gev))


def axis(slope_x: Values, slope_y: Values, intercept_x: Values, intercept_y: Values) -> Mask:
    """Both views of the BGO axis fitted; a failed view has slope and intercept both exactly 0."""
    failed = ((slope_x == 0) & (intercept_x == 0)) | ((slope_y == 0) & (intercept_y == 0))
    return np.asarray(~failed & np.isfinite(slope_x + slope_y + intercept_x + intercept_y))


def max_layer_ratio(layer_fraction: Values, *, max_ratio: float = 0.35) -> Mask:
    """No layer with more than a share of the energy: removes showers that enter through a side."""
    return np.asarray(showers.max_layer_ratio(layer_fraction) <= max_ratio)


def edge(edge_clear: Mask) -> Mask:
    """The edge cut as the producer stored it (selection bit 3)."""
    return edge_clear


def edge_from_image(image: Values) -> Mask:
    """The edge cut recomputed: maximum of layers 1, 2, 3 exists and is in no edge bar."""
    return showers.edge_bars_clear(image)


def fiducial(
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    half_width_mm: float = FIDUCIAL_HALF_WIDTH_MM,
) -> Mask:
    """Axis within the square at the top and at the bottom of the BGO sensitive volume."""
    line = (slope_x, slope_y, intercept_x, intercept_y)
    return in_square(*line, BGO_TOP_MM, half_width_mm) & in_square(
        *line, BGO_BOTTOM_MM, half_width_mm
    )


def topfiducial(
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    half_width_mm: float = FIDUCIAL_HALF_WIDTH_MM,
) -> Mask:
    """Axis within the square at the top but not at the bottom: the shower leaks through a side."""
    line = (slope_x, slope_y, intercept_x, intercept_y)
    return in_square(*line, BGO_TOP_MM, half_width_mm) & ~in_square(
        *line, BGO_BOTTOM_MM, half_width_mm
    )


def fiducial_bit(bgo_fiducial: Mask) -> Mask:
    """The fiducial flag of the producer (selection bit 2), for files without axis intercepts."""
    return bgo_fiducial


def n_bar_layer13(
    n_bars: Values, e_corr: Values, *, slope_per_decade: float = 8.0, offset: float = -5.0
) -> Mask:
    """Few bars above 10 MeV in the last layer: fewer than 8 log10(E/GeV) - 5."""
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = slope_per_decade * np.log10(e_corr) + offset
    return np.asarray(n_bars[:, -1] < limit)


def max_rms(
    layer_rms: Values, layer_fraction: Values, *, max_mm: float = 100.0, min_fraction: float = 0.01
) -> Mask:
    """No wide layer among those with a share of the energy."""
    wide = np.where(layer_fraction > min_fraction, layer_rms, 0.0).max(axis=1)
    return np.asarray(wide < max_mm)


def low_energy_cleaning(
    layer_rms: Values, e_corr: Values, slope_x: Values, slope_y: Values
) -> Mask:
    """Minimum sum of layer RMS below 250 GeV, against single tracks and noise.

    Below 100 GeV at least 270 - 100 cos^6 mm, from 100 to 250 GeV at least 800 - 600 cos^1.2 mm, with
    cos of the axis zenith.
    """
    cosine = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    limit = np.where(e_corr < 100.0, 270.0 - 100.0 * cosine**6, 800.0 - 600.0 * cosine**1.2)
    return np.asarray((e_corr >= 250.0) | (layer_rms.sum(axis=1) >= limit))


def track(
    track_clusters_x: Values,
    track_clusters_y: Values,
    track_holes_x: Values,
    track_holes_y: Values,
    track_distance: Values,
    track_angle: Values,
    *,
    min_clusters: int = 4,
    max_holes: int = 1,
    max_distance_mm: float = 40.0,
    max_angle_deg: float = 10.0,
    recover_three: bool = True,
) -> Mask:
    """STK track on the BGO axis, with enough clusters per view; three-cluster tracks without holes too."""
    fewest = np.minimum(track_clusters_x, track_clusters_y)
    holes = np.maximum(track_holes_x, track_holes_y)
    good = (fewest >= min_clusters) & (holes <= max_holes)
    if recover_three:
        good |= (fewest == min_clusters - 1) & (holes == 0)
    return good & (track_distance < max_distance_mm) & (track_angle < max_angle_deg)


def track_bit(track_matched: Mask, track_recovered: Mask) -> Mask:
    """The track flags of the producer (selection bit 4 or decision bit 11)."""
    return track_matched | track_recovered


def psd_match(
    psd_match_x: Values,
    psd_match_y: Values,
    track_clusters_x: Values,
    track_clusters_y: Values,
    *,
    max_mm: float = 40.0,
    max_mm_three_clusters: float = 60.0,
) -> Mask:
    """A PSD hit near the track in one view; tracks outside the PSD (no hit in either view) pass."""
    few = np.minimum(track_clusters_x, track_clusters_y) < 4
    limit = np.where(few, max_mm_three_clusters, max_mm)
    outside = np.isnan(psd_match_x) & np.isnan(psd_match_y)
    return (np.abs(psd_match_x) < limit) | (np.abs(psd_match_y) < limit) | outside


def psd_charge(
    psd_charge_x: Values,
    psd_charge_y: Values,
    *,
    max_sum: float = 10.0,
    max_one: float = 2.6,
    max_single_view: float = 8.0,
) -> Mask:
    """Charge one: both views sum < 10 and one of them < 2.6; a single view < 8; no hit passes."""
    x, y = np.isfinite(psd_charge_x), np.isfinite(psd_charge_y)
    with np.errstate(invalid="ignore"):
        both = (psd_charge_x + psd_charge_y < max_sum) & (
            np.minimum(psd_charge_x, psd_charge_y) < max_one
        )
        single = np.where(x, psd_charge_x, psd_charge_y) < max_single_view
    return np.where(x & y, both, np.where(x | y, single, True))


def stk_charge(
    stk_charge_x: Values, stk_charge_y: Values, *, max_mean: float = 40.0, max_smaller: float = 25.0
) -> Mask:
    """Charge in the first STK plane: mean and smaller of the two views below limits; no track passes."""
    with np.errstate(invalid="ignore"):
        high = ((stk_charge_x + stk_charge_y) / 2 >= max_mean) | (
            np.minimum(stk_charge_x, stk_charge_y) >= max_smaller
        )
    return ~high


CUTS: Mapping[str, Callable[..., Mask]] = {
    f.__name__: f
    for f in (
        saa,
        trigger,
        energy_range,
        axis,
        max_layer_ratio,
        edge,
        edge_from_image,
        fiducial_bit,
        n_bar_layer13,
        max_rms,
        low_energy_cleaning,
        track,
        track_bit,
        psd_match,
        psd_charge,
        stk_charge,
    )
}
#: Geometry of the two regions; a card places them with the entry ``region``.
REGIONS: Mapping[str, Callable[..., Mask]] = {"fiducial": fiducial, "topfiducial": topfiducial}


def cut_fields(function: Callable[..., Mask]) -> list[str]:
    """Canonical fields that a cut reads."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]


@dataclass(frozen=True)
class Cut:
    """A cut with its values.

    Attributes:
        name: Name in cut flows; ``region`` stands for the geometry of the region being filled.
        values: Keyword arguments of the function.
        kinds: Kinds of sample to which it applies; others pass.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("data", "electron", "proton")

    def function(self, region: str) -> Callable[..., Mask]:
        """The function to call for a region."""
        return REGIONS[region] if self.name == "region" else CUTS[self.name]

    def needs_image(self, region: str) -> bool:
        """Whether the cut reads the bar energies."""
        return "image" in cut_fields(self.function(region))


def make_cut(name: str, values: Mapping[str, Any] | None = None) -> Cut:
    """Build a cut from a card entry, checking its name and values against the function.

    Args:
        name: A name of :data:`CUTS`, or ``region``.
        values: Values of the function's keyword parameters, and optionally ``kinds``.

    Returns:
        The cut.

    Raises:
        SelectionError: On an unknown name, parameter, kind or a value of the wrong type.
    """
    given = dict(values or {})
    kinds = tuple(given.pop("kinds", Cut.kinds))
    unknown = [k for k in kinds if k not in Cut.kinds]
    if unknown or not kinds:
        msg = f"cut {name!r}: kinds {list(kinds)} must be some of {', '.join(Cut.kinds)}"
        raise SelectionError(msg)
    if name != "region" and name not in CUTS:
        msg = f"unknown cut {name!r}; known: region, {', '.join(CUTS)}"
        raise SelectionError(msg)
    function = fiducial if name == "region" else CUTS[name]
    known = {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    for key, value in given.items():
        if key not in known:
            msg = f"cut {name!r} has no value {key!r}; it takes: {', '.join([*known, 'kinds'])}"
            raise SelectionError(msg)
        boolean = isinstance(known[key], bool)
        if isinstance(value, bool) != boolean or not isinstance(value, bool | int | float):
            msg = (
                f"cut {name!r}: {key} must be a {'boolean' if boolean else 'number'}, not {value!r}"
            )
            raise SelectionError(msg)
    return Cut(name, given, kinds)


@dataclass(frozen=True)
class Passed:
    """Result of a chain of cuts on one chunk.

    Attributes:
        selected: Events that pass every cut, shape (n,).
        evaluated: Cut name to the events on which the cut was computed.
        passed: Cut name to those of them that pass it.
        cumulative: Cut name to the events that pass it and all cuts before it.
        n_minus_1: Cut name to the events that pass all other cuts.
    """

    selected: Mask
    evaluated: Mapping[str, Mask]
    passed: Mapping[str, Mask]
    cumulative: Mapping[str, Mask]
    n_minus_1: Mapping[str, Mask]


def evaluate(ntuple: Ntuple, cuts: Sequence[Cut], *, kind: str, region: str) -> Passed:
    """Apply ordered cuts to a chunk.

    Cuts on the bar energies are the expensive ones: they are computed only where they can still matter,
    that is for events that fail at most one other cut so far known (all that N-1 and the cumulative
    count need); ``evaluated`` says for which. For that they must come after all others.

    Args:
        ntuple: The chunk.
        cuts: The chain.
        kind: Kind of the sample; cuts for other kinds pass every event.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        The masks.

    Raises:
        SelectionError: If a cut on the image stands before one that does not need it.
        MissingBranchError: If a field is missing.
    """
    n = len(ntuple)
    everything = np.ones(n, bool)
    failures = np.zeros(n, np.int16)
    evaluated: dict[str, Mask] = {}
    passed: dict[str, Mask] = {}
    image_seen: str | None = None
    for cut in cuts:
        if kind not in cut.kinds:
            evaluated[cut.name] = passed[cut.name] = everything
            continue
        function = cut.function(region)
        fields = cut_fields(function)
        if "image" in fields:
            image_seen = cut.name
            rows = failures <= 1
            mask = np.zeros(n, bool)
            if rows.any():
                arrays = [ntuple.image(rows) if f == "image" else ntuple[f][rows] for f in fields]
                mask[rows] = function(*arrays, **cut.values)
            failed = rows & ~mask
        else:
            if image_seen is not None:
                msg = f"cut {cut.name!r} must come before {image_seen!r}, which reads the bar energies"
                raise SelectionError(msg)
            rows = everything
            mask = np.asarray(function(*(ntuple[f] for f in fields), **cut.values), bool)
            failed = ~mask
        evaluated[cut.name], passed[cut.name] = rows, mask
        failures += failed
    cumulative: dict[str, Mask] = {}
    running = everything
    for name, mask in passed.items():
        running = running & mask
        cumulative[name] = running
    # Events not evaluated by an image cut fail two others already, so they are in no N-1 sample.
    n_minus_1 = {
        name: (failures == 0) | ((failures == 1) & evaluated[name] & ~mask)
        for name, mask in passed.items()
    }
    return Passed(running, evaluated, passed, cumulative, n_minus_1)


def check_order(cuts: Sequence[Cut], regions: Sequence[str]) -> None:
    """Refuse a chain with repeated cuts, without its region, or with an image cut before a cheap one.

    Args:
        cuts: The chain.
        regions: Regions that it is applied for.

    Raises:
        SelectionError: With the names.
    """
    names = [c.name for c in cuts]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        msg = f"cut {', '.join(repeated)} stands more than once in the chain"
        raise SelectionError(msg)
    flagged = "fiducial_bit" in names and list(regions) == ["fiducial"]
    if "region" not in names and not flagged:
        msg = (
            "the chain needs the entry 'region' (the fiducial or top-fiducial geometry); for files "
            "without axis intercepts take 'fiducial_bit' and regions: [fiducial]"
        )
        raise SelectionError(msg)
    needs = [c.needs_image("fiducial") for c in cuts]
    if sorted(needs) != needs:
        late = names[needs.index(True)]
        msg = f"cut {late!r} reads the bar energies and must stand after the cuts that do not"
        raise SelectionError(msg)
