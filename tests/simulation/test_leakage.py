"""Leaking showers against Geant4: numbers of the shipped events, and the counting against plain loops."""

import json

import numpy as np
import pytest

from processors.geometry import BAR_PITCH_MM, LAYER_MEASURES_Y, LAYER_Z_MM
from simulation import leaking, validationreport
from simulation.leakage import Row, gap_effect, leakage, remark
from simulation.leaking import Showers, bar_path_x0, pair, path_x0, quantities
from simulation.material import BLOCK_TOP_MM
from simulation.validation import Reference, load_reference, simulate


@pytest.fixture(scope="module")
def electrons() -> Showers:
    reference = load_reference("electron")
    return pair("electron", reference, simulate("electron", reference, seed=11, repeat=4))


@pytest.fixture(scope="module")
def electron_rows(electrons: Showers) -> dict[str, Row]:
    return {row.label: row for row in leakage(electrons)}


@pytest.fixture(scope="module")
def proton_rows() -> dict[str, Row]:
    reference = load_reference("proton").take(np.arange(1500))
    image = simulate("proton", reference, seed=12, repeat=2)
    return {row.label: row for row in leakage(pair("proton", reference, image))}


def of(rows: dict[str, Row], table: str) -> list[Row]:
    return [row for row in rows.values() if row.table == table]


def beam(*axes: tuple[float, float, float, float]) -> Reference:
    """Events without energy that pass (x, y) at the top of the block with slopes."""
    x, y, sx, sy = np.array(axes).T
    n = len(x)
    slope = np.column_stack([sx, sy, np.ones(n)])
    return Reference(
        np.zeros((n, 14, 22)),
        np.full(n, 700.0),
        np.column_stack([x, y, np.full(n, BLOCK_TOP_MM)]),
        slope / np.linalg.norm(slope, axis=1)[:, None],
        np.ones(n, bool),
    )


def test_mean_containment_agrees_with_geant4(electron_rows, proton_rows):
    rows = of(electron_rows, "containment")
    assert len(rows) == 14
    for row in rows:
        # 2 % and the 1 % or so that 2000 showers fluctuate on the rising edge
        assert abs(row.relative) < (0.035 if row.high <= 8 else 0.025)
        assert row.geant4_q5 < 0 < row.geant4_q95
    kept = {row.low: row for row in rows}
    assert kept[10.0].geant4 == pytest.approx(0.459, abs=0.002)
    assert kept[20.0].geant4 == pytest.approx(0.892, abs=0.002)
    assert kept[20.0].simulation == pytest.approx(0.896, abs=0.003)
    for row in of(proton_rows, "containment"):
        assert abs(row.relative) < (0.12 if row.high <= 14 else 0.06)
        assert 0.8 < row.width_ratio < 1.25


def test_electron_showers_fluctuate_too_little_in_depth(electron_rows):
    """The known deviation: simulated showers differ by a fifth less from one to the next."""
    for row in of(electron_rows, "containment"):
        if 6 <= row.low < 20:
            assert 0.7 < row.width_ratio < 1.1
    depth = electron_rows["mean depth of the energy, X0"]
    assert depth.geant4 == pytest.approx(11.69, abs=0.01)
    assert depth.simulation == pytest.approx(depth.geant4, abs=0.2)
    assert depth.geant4_width == pytest.approx(1.05, abs=0.05)
    assert 0.75 < depth.width_ratio < 1.05


def test_gaps_between_bars_move_showers_of_geant4_only(electrons):
    effect = gap_effect(electrons)
    assert effect.geant4_slope == pytest.approx(-0.75, abs=0.06)
    assert effect.geant4_correlation < -0.4
    assert abs(effect.simulation_correlation) < 0.1
    rest = effect.geant4_width**2 * (1 - effect.geant4_correlation**2)
    assert effect.geant4_rest**2 == pytest.approx(rest, rel=1e-6)
    # without the gaps Geant4 showers fluctuate as the simulated ones do
    assert effect.simulation_width == pytest.approx(effect.geant4_rest, rel=0.08)
    assert effect.geant4_width == pytest.approx(1.13, abs=0.03)


def test_virtual_and_real_walls_agree_with_geant4(electron_rows, proton_rows):
    for rows, limit in ((electron_rows, 0.08), (proton_rows, 0.25)):
        walls = of(rows, "virtual wall")
        assert [row.low for row in walls] == [10.0, 15.0, 20.0, 25.0]
        assert all(abs(row.relative) < limit for row in walls)
        assert all(abs(row.relative) < 0.04 for row in walls[-2:])
    leaving = electron_rows["E_raw/E; axis 0-21 mm inside"]
    assert leaving.events == 85
    assert leaving.geant4 == pytest.approx(0.9294, abs=2e-4)
    assert abs(leaving.relative) < 0.005
    two = electron_rows["two bars at the side / E_raw; axis 0-21 mm inside"]
    assert abs(two.relative) < 0.06


def test_lateral_profile_agrees_with_geant4(electron_rows):
    rows = of(electron_rows, "lateral")
    assert len(rows) == 35
    late = [row for row in rows if not row.label.startswith("4-8")]
    assert max(abs(row.relative) for row in late) < 0.12
    # mirrored walls: the share beyond one is the share inside the other
    by = {row.label: row for row in rows}
    for depth in ("8-12", "16-20"):
        near, beyond = (by[f"{depth} X0, wall {d} mm off"] for d in ("0 to 15", "-15 to 0"))
        assert near.geant4 + beyond.geant4 == pytest.approx(1.0, abs=1e-9)


def test_path_in_bars_in_closed_form():
    middle, gap = BAR_PITCH_MM / 2, 0.0
    reference = beam((middle, middle, 0, 0), (gap, middle, 0, 0), (gap, gap, 0, 0))
    whole = bar_path_x0(reference, 100.0)
    assert whole == pytest.approx(np.array([14, 7, 0]) * 25 / 11.18, abs=1e-6)
    # 8 X0 of 14.1 mm are 112.8 mm: three layers of 25 mm and 23.8 mm of the fourth
    assert bar_path_x0(reference, 8.0)[0] == pytest.approx((75 + 23.8) / 11.18, abs=0.05)
    # inclined by 45 degrees: along the axis every path is longer, and gaps average out
    slanted = beam((-200.0, middle, 1.0, 0.0))
    assert path_x0(slanted, [BLOCK_TOP_MM + 141.0])[0, 0] == pytest.approx(10 * 2**0.5)
    share = bar_path_x0(slanted, 100.0)[0] * 11.18 / (406 * 2**0.5)
    assert share == pytest.approx(25 / 29 * (0.5 + 0.5 * 25 / 27.5), abs=0.02)


@pytest.fixture
def toys() -> Showers:
    """Random images on real axes; layer energies as of any shower."""
    reference = load_reference("electron").take(np.arange(25))
    rng = np.random.default_rng(3)
    profile = np.exp(-((np.arange(14) - 4.0) ** 2) / 20)[:, None]
    images = rng.gamma(2.0, profile, (3, 25, 14, 22))
    ones = np.ones((2, 25), bool)
    return Showers("electron", reference, images[0], images[1:], ones[0], ones)


def axis(reference: Reference, i: int, layer: int) -> float:
    """The measured coordinate of one axis in one layer, by hand."""
    c = 1 if LAYER_MEASURES_Y[layer] else 0
    slope = reference.direction[i, c] / reference.direction[i, 2]
    return float(reference.position_mm[i, c] + slope * (LAYER_Z_MM[layer] - BLOCK_TOP_MM))


def test_lateral_shares_as_counted_by_a_loop(toys):
    found = {q.label: q for q in quantities(toys)}["8-12 X0, wall 15 to 30 mm off"]
    expected = []
    for i in range(25):
        for layer in range(14):
            z = LAYER_Z_MM[layer] - BLOCK_TOP_MM
            if not 8 <= z / toys.reference.direction[i, 2] / 14.1 < 12:
                continue
            bars = toys.geant4[i, layer]
            for border in range(4, 19):
                wall = (border - 11) * 27.5
                if 15 <= wall - axis(toys.reference, i, layer) < 30:
                    expected.append((i, bars[border:].sum() / bars.sum()))
                if 15 <= axis(toys.reference, i, layer) - wall < 30:
                    expected.append((i, bars[:border].sum() / bars.sum()))
    got = np.array(sorted(zip(found.event, found.geant4, strict=True)))
    assert len(expected) > 20
    assert got == pytest.approx(np.array(sorted(expected)))


def test_virtual_wall_as_counted_by_a_loop(toys):
    found = {q.label: q for q in quantities(toys)}["after 15 X0"]
    expected = {}
    for i in range(25):
        d, p = toys.reference.direction[i], toys.reference.position_mm[i]
        c = int(abs(d[1]) > abs(d[0]))
        slope = d[c] / d[2]
        z = 15 * 14.1 * d[2]
        border = round((p[c] + slope * z) / 27.5) + 11
        if abs(slope) < 0.4 or z > 406:
            continue
        layers = [k for k in range(14) if LAYER_MEASURES_Y[k] == (c == 1)]
        images = [toys.geant4[i, layers], *toys.simulated[:, i, layers]]
        if slope > 0 and 0 < border <= 18:
            expected[i] = [x[:, :border].sum() / x.sum() for x in images]
        if slope < 0 and 4 <= border < 22:
            expected[i] = [x[:, border:].sum() / x.sum() for x in images]
    assert len(expected) >= 8
    assert found.event.tolist() == list(expected)
    got = np.vstack([found.geant4, found.simulated]).T
    assert got == pytest.approx(np.array(list(expected.values())))


def test_containment_ends_with_all_energy(toys):
    energy = toys.reference.energy_gev
    total = toys.geant4.sum(axis=(1, 2)) / energy
    for q in quantities(toys):
        if q.table == "containment":
            assert (q.geant4 <= total[q.event] + 1e-12).all()
            assert (np.bincount(q.event, minlength=25) <= 1).all()  # one border per event and class
    everything = Showers(
        "proton", toys.reference, toys.geant4, toys.simulated, *np.ones((2, 1), bool)
    )
    norm, _ = leaking._norm(everything)
    assert norm == pytest.approx(toys.geant4.sum(axis=(1, 2)))


def test_samples_of_one_distribution_agree_and_others_do_not():
    """Toys: flat images, energies Gaussian; then 10 % more and half the spread."""
    reference = load_reference("electron").take(np.arange(1000))
    rng = np.random.default_rng(8)

    def rows(scale: float, spread: float) -> list[Row]:
        factor = 1 + 0.1 * rng.standard_normal((5, 1000))
        factor[1:] = scale * (1 + spread * (factor[1:] - 1))
        image = np.broadcast_to(factor[:, :, None, None], (5, 1000, 14, 22)) / 308 * 700
        ones = np.ones((4, 1000), bool)
        toys = Showers("electron", reference, image[0], image[1:], ones[0], ones)
        return [r for r in leakage(toys) if r.table == "containment" and r.events > 600]

    same = rows(1.0, 1.0)
    assert len(same) > 8
    pulls = np.array([r.relative / r.relative_error for r in same])
    assert (np.abs(pulls) < 3.5).all()
    assert [remark(r) for r in same] == [""] * len(same)
    for row in same:
        assert row.geant4_width == pytest.approx(0.1 * row.geant4, rel=0.15)
        assert row.width_ratio == pytest.approx(1.0, abs=4 * row.width_error)
        # 1000 Gaussian numbers: sigma / sqrt(n) of the mean, and of four simulated ones each
        error = 0.1 / np.sqrt(row.events) * np.sqrt(1.25)
        assert row.relative_error == pytest.approx(error, rel=0.1)
    for row in rows(1.1, 0.5):
        assert row.relative == pytest.approx(0.1, abs=0.02)
        assert row.width_ratio == pytest.approx(0.55, rel=0.12)
        assert remark(row).startswith("mean +")
        assert "spread -" in remark(row)


def test_fluctuations_need_repetitions(toys):
    once = Showers(
        "electron", toys.reference, toys.geant4, toys.simulated[:1],
        toys.used_geant4, toys.used_simulated[:1],
    )  # fmt: skip
    with pytest.raises(ValueError, match="simulated twice or more"):
        leakage(once)


def test_report_has_a_section_of_leaking_showers(tmp_path, monkeypatch):
    def few(kind):
        events = load_reference(kind)
        return events.take(np.r_[0:150, events.full.sum() : events.full.sum() + 150])

    monkeypatch.setattr(validationreport, "load_reference", few)
    validationreport.validate(tmp_path, seed=2, repeat=1, leaking_repeat=2)
    text = (tmp_path / "validation.md").read_text("utf-8")
    assert text.startswith("# Simulated showers against Geant4 (synthetic)")
    assert text.index("# Leaking showers (synthetic)") > text.index("## proton_full")
    for name in ("electron", "electron_full", "proton", "proton_full"):
        assert f"## leaking showers: {name}\n" in text
    assert "Gaps between the bars (electron_full)" in text
    content = json.loads((tmp_path / "validation.json").read_text("utf-8"))
    assert content["electron"]["zeta"]["q50"]["geant4"] > 0
    row = content["leaking"]["electron"][5]
    assert (row["table"], row["label"]) == ("containment", "first 14-16 X0")
    assert f"| {row['label']} | {row['events']} | {row['geant4']:.4g} |" in text
    for stem in ("containment", "lateral", "walls"):
        assert (tmp_path / f"leaking_{stem}.png").stat().st_size > 30_000
