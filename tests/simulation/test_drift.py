"""A drifting energy scale and runs spread over years: what changes, and that nothing else does."""

import json
from pathlib import Path

import numpy as np
import pytest
import uproot

from processors.spectrum import parse
from simulation import orbit
from simulation.orbit import FLIGHT_START_S, YEAR_S, livetime_s, spread_runs, years_in_flight
from simulation.sample import Sample, simulate

FEW_PROTONS = parse({"type": "power_law", "norm": 1e-12, "index": 2.7, "e0_gev": 1000.0})
DRIFT = -0.05


def sample(**change: object) -> Sample:
    options = {
        "kind": "data", "seed": 4, "livetime_s": 8000.0, "e_min_gev": 40.0, "e_max_gev": 3000.0,
        "min_deposit_gev": 40.0, "outside_share": 0.0, "proton_spectrum": FEW_PROTONS,
        "spread_years": 2.0,
    }  # fmt: skip
    return Sample(**(options | change))  # type: ignore[arg-type]


def test_runs_are_spread_evenly() -> None:
    found = spread_runs(8000.0, 2.0, FLIGHT_START_S, 7)
    assert len(found) == 72
    assert [r.number for r in found] == list(range(7, 79))
    starts = np.array([r.start_s for r in found])
    assert starts[0] == FLIGHT_START_S
    assert np.diff(starts) == pytest.approx(2 * YEAR_S / 72, abs=1)
    assert len({r.stop_s - r.start_s for r in found}) == 1
    total = sum(livetime_s(r.start_s, r.stop_s) for r in found)
    assert 8000.0 <= total < 8000.0 + 72
    assert len(spread_runs(8000.0, 0.01, FLIGHT_START_S, 1, at_least=4)) == 4
    for wanted, years in ((3e7, 1.0), (10.0, 2.0)):
        with pytest.raises(ValueError, match="do not fit"):
            spread_runs(wanted, years, FLIGHT_START_S, 1)
    assert years_in_flight(FLIGHT_START_S + 2 * YEAR_S) == 2.0


def test_every_month_has_a_run() -> None:
    months = {
        int((r.start_s - FLIGHT_START_S) // (YEAR_S / 12))
        for r in spread_runs(20_000.0, 3.0, FLIGHT_START_S, 1)
    }
    assert months == set(range(36))


def read(path: Path) -> dict[str, np.ndarray]:
    with uproot.open(path) as file:
        names = ("tt_bgoTotalE_GeV", "tt_second", "tt_run", "tt_bgoRecSlopeX", "tt_nStkClu_trk")
        return file["DmlNtup"].arrays(names, library="np")


def test_the_drift_moves_the_energies_of_the_same_events(tmp_path: Path) -> None:
    plain, moved = (
        read(simulate(sample(gain_drift_per_year=d), tmp_path / str(d), workers=1)[0])
        for d in (0.0, DRIFT)
    )
    # a smaller gain loses events at the skim; the others are those of the sample without
    keys = [list(zip(f["tt_second"], f["tt_run"], strict=True)) for f in (plain, moved)]
    assert len(keys[1]) < len(keys[0])
    assert set(keys[1]) <= set(keys[0])
    common = [k for k in keys[1] if keys[0].count(k) == 1]
    rows = [[k.index(c) for c in common] for k in keys]
    ratio = moved["tt_bgoTotalE_GeV"][rows[1]] / plain["tt_bgoTotalE_GeV"][rows[0]]
    years = (plain["tt_second"][rows[0]] - FLIGHT_START_S) / YEAR_S
    assert len(common) > 100
    # the common scale of an event has up to 0.4 % of its own in either sample
    assert np.std(ratio / (1 + DRIFT * years)) < 0.0065
    slope, start = np.polyfit(years, ratio, 1)
    assert slope == pytest.approx(DRIFT, abs=0.004)
    assert start == pytest.approx(1.0, abs=0.004)


def test_what_is_recorded(tmp_path: Path) -> None:
    paths = [
        simulate(sample(livetime_s=200.0, **change), tmp_path / str(i), workers=1)[0]
        for i, change in enumerate(({}, {"gain_drift_per_year": DRIFT}))
    ]

    records = []
    for path in paths:
        with uproot.open(path) as file:
            records.append(json.loads(str(file["cre_metadata"])))
    assert "gain_drift_per_year" not in records[0]["injected"]
    assert records[1]["injected"]["gain_drift_per_year"] == DRIFT
    assert "gain_drift_per_year" not in records[1]["spectrum"]
    assert len(records[0]["runs"]) == 72
    assert records[0]["runs"][1]["start_s"] - records[0]["runs"][0]["stop_s"] > 9 * 86_400


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gain_drift_per_year": -0.3}, "from -0.2 to 0.2"),
        ({"spread_years": -1.0}, "must not be negative"),
        ({"gain_drift_per_year": 0.05}, "over the highest gain"),
        (
            {"kind": "electron", "livetime_s": None, "n_events": 10},
            "gain_drift_per_year and spread_years are for data",
        ),
    ],
)
def test_samples_that_make_no_sense(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sample(**change)


def test_a_growing_gain_asks_for_lower_energies() -> None:
    grown = sample(gain_drift_per_year=0.05, e_min_gev=36.0)
    assert grown.highest_gain == pytest.approx(1.1, abs=1e-4)
    assert grown.energies_of("proton")[0] == pytest.approx(1.1 * 40.0 / 1.1, rel=1e-3)
    assert sample(gain_drift_per_year=-0.05).highest_gain == 1.0
    assert orbit.LIVE_FRACTION == 0.768
