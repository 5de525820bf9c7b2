"""The canonical fields of an event: names, shapes and units, whatever a group calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["FIELDS", "FieldInfo", "Shape"]

Shape = Literal["event", "layer", "stk", "image"]


@dataclass(frozen=True)
class FieldInfo:
    """What a canonical field is.

    Attributes:
        shape: ``event`` (n,), ``layer`` (n, 14), ``stk`` (n, 12) or ``image`` (n, 14, 22).
        unit: Canonical unit, empty for numbers without one.
        text: One line for reports.
        boolean: True for flags.
    """

    shape: Shape
    unit: str
    text: str
    boolean: bool = False


FIELDS: Mapping[str, FieldInfo] = {
    "e_raw": FieldInfo("event", "GeV", "energy deposited in the BGO"),
    "e_corr": FieldInfo("event", "GeV", "electron-corrected energy"),
    "layer_fraction": FieldInfo("layer", "", "layer energies over the total"),
    "layer_rms": FieldInfo("layer", "mm", "lateral RMS of the layers"),
    "n_bars": FieldInfo("layer", "", "bars above 10 MeV in each layer"),
    "n_hits": FieldInfo("event", "", "fired bars"),
    "rms_l": FieldInfo("event", "mm", "RMS of the last layer with signal"),
    "rms_r": FieldInfo("event", "mm", "radial RMS of the shower"),
    "zeta": FieldInfo("event", "", "classical electron-proton variable (xtrl)"),
    "slope_x": FieldInfo("event", "", "axis slope dx/dz"),
    "slope_y": FieldInfo("event", "", "axis slope dy/dz"),
    "intercept_x": FieldInfo("event", "mm", "axis x at z = 0"),
    "intercept_y": FieldInfo("event", "mm", "axis y at z = 0"),
    "image": FieldInfo("image", "GeV", "bar energies"),
    "stk_ecore": FieldInfo("event", "", "STK energy within one Molière radius of the track (ADC)"),
    "stk_n_clusters": FieldInfo("event", "", "STK clusters within one Molière radius of the track"),
    "stk_plane_energy": FieldInfo(
        "stk", "", "energy near the track in the STK layers x0, y0 … x5, y5, from the top (ADC)"
    ),
    "stk_plane_clusters": FieldInfo("stk", "", "clusters near the track in the same 12 STK layers"),
    "track_clusters_x": FieldInfo("event", "", "x clusters on the track"),
    "track_clusters_y": FieldInfo("event", "", "y clusters on the track"),
    "track_holes_x": FieldInfo("event", "", "x planes without a cluster on the track"),
    "track_holes_y": FieldInfo("event", "", "y planes without a cluster on the track"),
    "track_distance": FieldInfo("event", "mm", "track to BGO axis at the BGO top"),
    "track_angle": FieldInfo("event", "deg", "track to BGO axis"),
    "stk_charge_x": FieldInfo("event", "", "sqrt(ADC cos) in the first STK x plane"),
    "stk_charge_y": FieldInfo("event", "", "sqrt(ADC cos) in the first STK y plane"),
    "psd_charge_x": FieldInfo("event", "", "charge in the PSD x view"),
    "psd_charge_y": FieldInfo("event", "", "charge in the PSD y view"),
    "psd_match_x": FieldInfo("event", "mm", "track to PSD hit, x view"),
    "psd_match_y": FieldInfo("event", "mm", "track to PSD hit, y view"),
    "e_true": FieldInfo("event", "GeV", "true kinetic energy (simulation)"),
    "weight": FieldInfo("event", "", "weight of a simulated event"),
    "run": FieldInfo("event", "", "run number"),
    "second": FieldInfo("event", "s", "mission elapsed time"),
    "outside_saa": FieldInfo("event", "", "outside the South Atlantic Anomaly", boolean=True),
    "he_trigger": FieldInfo("event", "", "high-energy trigger", boolean=True),
    "bgo_fiducial": FieldInfo("event", "", "fiducial flag of the producer", boolean=True),
    "edge_clear": FieldInfo("event", "", "edge cut of the producer (bit 3)", boolean=True),
    "track_matched": FieldInfo("event", "", "track matched to the BGO axis", boolean=True),
    "track_recovered": FieldInfo("event", "", "matched track with three clusters", boolean=True),
}
