"""Control samples: selection, tags that leave the probed variable out, histograms and weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from processors.calibration import Calibration
from processors.chain import make_cut
from processors.controlsamples import (
    F_LAST,
    ControlEvents,
    ControlSampleError,
    Tags,
    control_cuts,
    energy_edges,
    fill,
    read_events,
)
from processors.exceptions import MissingBranchError
from processors.manifest import build
from processors.showers import f_last
from processors.spectrum import ELECTRON_2017
from processors.weights import Generated, rate_weights

MakeNtuple = Callable[..., Path]
CUTS = tuple(make_cut(n) for n in ("trigger", "axis", "region", "max_rms"))


def table(offset: float, steps: float) -> Calibration:
    part = {
        "rms": {"energies_gev": [100.0], "layers": [[offset]] * 14},
        "f_last": {"energies_gev": [100.0], "steps": [steps]},
    }
    return Calibration.model_validate(
        {"name": "t", "synthetic": True, "electron": part, "proton": part}
    )


def test_cuts_on_the_probed_variable_are_dropped() -> None:
    kept, dropped = control_cuts(CUTS, "fiducial")
    assert [c.name for c in kept] == ["trigger", "axis", "region"]
    assert dropped == ("max_rms",)


def test_events_of_files(make_ntuple: MakeNtuple) -> None:
    paths = [make_ntuple("electron", n=200, seed=s) for s in (1, 2)]
    files = build([str(p) for p in paths]).files
    seen: list[int] = []
    events = read_events(
        files, CUTS[:3], kind="electron", target=ELECTRON_2017, advance=seen.append
    )
    assert seen == [200, 200]
    import uproot  # noqa: PLC0415 - an independent reading

    parts = [uproot.open(f"{p}:DmlNtup").arrays(library="np") for p in paths]
    branch = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    selected = (branch["tt_selection_bits"] & 6) == 6  # trigger and fiducial
    assert len(events) == selected.sum() > 100
    np.testing.assert_allclose(events.energy_gev, branch["tt_bgoTotalEcorr_GeV"][selected])
    fraction = np.stack([branch[f"tt_F{i}"] for i in range(14)], axis=1)
    np.testing.assert_allclose(events.last_fraction, f_last(fraction[selected]))
    # two files of one production: twice the generated primaries
    generated = [Generated(events=2_000_000, e_min_gev=50, e_max_gev=5000)]
    expected = rate_weights(
        branch["tt_ekin"][selected] / 1e3, np.ones(selected.sum()), generated, ELECTRON_2017
    )
    np.testing.assert_allclose(events.weight, expected, rtol=1e-6)


def test_what_is_refused(make_ntuple: MakeNtuple) -> None:
    with pytest.raises(ControlSampleError, match="no proton files"):
        read_events([], CUTS, kind="proton", target=ELECTRON_2017)
    files = build([str(make_ntuple("data", n=50, seed=1))]).files
    with pytest.raises(ValueError, match="target spectrum"):
        read_events(files, CUTS, kind="data", target=ELECTRON_2017)
    high = make_cut("energy_range", {"min_gev": 9000.0})
    with pytest.raises(ControlSampleError, match="none of the selected events passes"):
        read_events(files, [high], kind="data")
    bare = files[0].model_copy(update={"fields": ["e_corr"]})
    with pytest.raises(MissingBranchError, match="layer_rms, layer_fraction"):
        read_events([bare], CUTS, kind="data")
    complete = files[0].model_copy(update={"complete_above_gev": 300.0})
    assert read_events([complete], CUTS, kind="data").energy_gev.min() >= 300.0


def test_edges_hold_every_border() -> None:
    edges = energy_edges([20.0, 300.0, 1000.0, 1000.0, 1e5], 106.0, 5000.0, width=0.2)
    assert edges[0] == pytest.approx(np.log10(106.0))
    assert edges[-1] == pytest.approx(np.log10(5000.0))
    assert {round(10**e, 6) for e in edges} >= {300.0, 1000.0}
    assert (np.diff(edges) > 0).all()
    assert np.diff(edges).max() <= 0.2 + 1e-9


def events(rms: np.ndarray, last: float = 1e-3, weight: float = 1.0) -> ControlEvents:
    n = len(rms)
    return ControlEvents(np.full(n, 200.0), rms, np.full(n, last), np.full(n, weight))


def test_a_tag_does_not_see_the_layer_that_it_tags_for() -> None:
    edges = np.array([2.0, 2.5])
    wide = np.full((1, 14), 30.0)  # sum 420 mm: zeta 3.9
    wide[0, 5] = 400.0  # with it zeta is 50
    h = fill(events(wide), edges, Tags())
    electron_like, proton_like = h.counts.sum(axis=(2, 3))
    assert electron_like[5] == 1.0
    assert electron_like[[0, 4, 6, 13]].tolist() == [0.0] * 4
    assert proton_like[5] == 0.0
    assert proton_like[[0, 4, 6, 13]].tolist() == [1.0] * 4
    # F_last is tagged by layers 0 to 3 alone: 120 mm
    assert (electron_like[F_LAST], proton_like[F_LAST]) == (0.0, 1.0)


def test_histograms_of_data() -> None:
    rms = np.full((3, 14), 20.0)
    rms[1, 2] = 0.0
    rms[2, 2] = 7.3
    h = fill(events(rms, last=1.02e-3), np.array([2.0, 2.5]), Tags())
    filled = {int(k): float(h.counts[0, 2, 0, k]) for k in np.flatnonzero(h.counts[0, 2, 0])}
    assert filled == {0: 1.0, 15: 1.0, 41: 1.0}  # exactly 0, [7.0, 7.5), [20, 20.5)
    assert not h.change.any()
    np.testing.assert_allclose(h.log_energy[0, 2], np.log10(200.0))
    place = np.flatnonzero(h.counts[0, F_LAST, 0])
    assert place.tolist() == [151]  # -2.991 is 3.029 above the lower edge, in bins of 0.02


def test_monte_carlo_carries_table_weights_and_change() -> None:
    rng = np.random.default_rng(1)
    sample = events(rng.normal(25.0, 3.0, (4000, 14)), weight=0.5)
    h = fill(sample, np.array([2.0, 2.5]), Tags(), table(5.0, 10.0), "electron")
    centres = np.concatenate([[0.0], 0.25 + 0.5 * np.arange(300)])
    counts = h.counts[0, 4, 0]
    assert counts.sum() == pytest.approx(2000.0)
    assert h.variance[0, 4, 0].sum() == pytest.approx(1000.0)
    assert counts @ centres / counts.sum() == pytest.approx(20.0, abs=0.15)
    # one millimetre more of offset moves the mean down by one and no event in or out
    assert h.change[0, 4, 0].sum() == pytest.approx(0.0, abs=1e-9)
    assert h.change[0, 4, 0] @ centres / counts.sum() == pytest.approx(-1.0, abs=0.01)
    with pytest.raises(ValueError, match="neither for data"):
        fill(sample, np.array([2.0, 2.5]), Tags(), table(5.0, 1.0))
