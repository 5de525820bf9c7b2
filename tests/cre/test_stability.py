"""A gain drift from simulated showers to the slope of the flux, by the commands alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Cre = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
FEW_PROTONS = '{"type": "power_law", "norm": 1e-12, "index": 2.7, "e0_gev": 1000.0}'
SKIM = (
    "--e-min-gev",
    48,
    "--e-max-gev",
    3000,
    "--min-deposit-gev",
    48,
    "--triggered-only",
    "--outside-share",
    0,
)


def test_a_gain_drift_shows_in_the_flux(tmp_path: Path, cre: Cre) -> None:
    delta = -0.15
    nt = tmp_path / "nt"
    data = ("--kind", "data", "-o", nt, "--livetime-s", 100_000, "--seed", 6, "--workers", 1)
    drift = (
        "--spread-over-years",
        2,
        "--gain-drift-per-year",
        delta,
        "--proton-spectrum",
        FEW_PROTONS,
    )
    assert cre("simulate", *data, *SKIM, *drift)[0] == 0
    electrons = ("--kind", "electron", "-o", nt, "--events", 120_000, "--seed", 2, "--workers", 1)
    assert cre("simulate", *electrons, *SKIM)[0] == 0
    assert cre("manifest", *nt.glob("*.root"), "-o", tmp_path / "manifest.json")[0] == 0
    card = (ROOT / "cre/cards/fiducial.yaml").read_text()
    (tmp_path / "card.yaml").write_text(card)
    code, _, err = cre("run", tmp_path / "card.yaml", "-o", tmp_path / "run")
    assert code == 0, err
    file = tmp_path / "run/histograms.pkl"
    code, out, err = cre("stability", file, "-o", tmp_path / "s", "--region", "fiducial")
    assert code == 0, err
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["injected"]["gain_drift_per_year"] == delta
    assert len(content["months"]) == 25  # 30 December 2015 to December 2017
    flux = content["tests"]["flux"]
    # index 3.09; the mean of the two years has a gain of 1 + delta
    expected = (3.09 - 1) * delta / (1 + delta)
    assert flux["drift_per_year"] == pytest.approx(expected, abs=3.5 * flux["drift_error"])
    assert flux["drift_error"] < abs(expected) / 4
    assert flux["drift_p_value"] < 1e-3
    efficiency = content["tests"]["efficiency"]
    assert efficiency["p_value"] > 1e-3
    assert "drift" in out
