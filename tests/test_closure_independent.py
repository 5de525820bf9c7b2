"""Closure of the top-fiducial flux up to 10 TeV: data of one simulated sample, measured with another one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.acceptance import acceptance_from_histogram
from analysis.measurement import flux_from_histograms
from analysis.selection import project
from analysis.toys.draw import draw_simulation, expectation, read_toy_model
from cre.card import read_card, run_config
from cre.runmeta import run_meta
from processors.manifest import build
from processors.run import execute, plan
from processors.spectrum import parse
from simulation.sample import Sample, simulate

ROOT = Path(__file__).parents[1]
TEN_YEARS = 236_375_620.0  # s of livetime
CUT, LEAST_GEV, TOYS = 5.0, 870.0, 100
CUTOFF = {
    "type": "power_law", "norm": 1.62e-4, "index": 3.09, "e0_gev": 100.0, "cutoff_gev": 2000.0,
    "cutoff_power": 4.0,
}  # fmt: skip

Histograms = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two samples of top-fiducial electrons of 0.7 to 20 TeV, with other seeds."""
    made = []
    for seed in (61, 62):
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        where = {"e_min_gev": 700.0, "e_max_gev": 20_000.0, "min_deposit_gev": 95.0}
        region = {"triggered_only": True, "outside_share": 0.0, "full_region": "topfiducial"}
        simulate(Sample("electron", seed=seed, n_events=5_000_000, **where, **region), folder)
        made.append(folder)
    return made


def electrons(folder: Path, target: dict[str, Any] | None = None) -> Histograms:
    """Histograms of a sample with the shipped card, or with another electron spectrum."""
    manifest = build([str(p) for p in folder.glob("*.root")])
    (folder / "manifest.json").write_text(manifest.model_dump_json(by_alias=True), "utf-8")
    content = yaml.safe_load((ROOT / "cre/cards/topfiducial.yaml").read_text("utf-8"))
    if target is not None:
        content["target"]["electron"] = target
    (folder / "card.yaml").write_text(yaml.safe_dump(content), "utf-8")
    card = read_card(folder / "card.yaml")
    config = run_config(card, manifest.files)
    result = execute(plan(manifest.files, card.chunk_size), config)
    return result.output["hists"], run_meta(card, manifest, manifest.files, config, result)


def area(histograms: Histograms) -> tuple[np.ndarray, np.ndarray]:
    """Acceptance and its error, m² sr."""
    hists, meta = project(*histograms)
    target = meta["target_flux_integral"]["electron"]
    found = acceptance_from_histogram(hists["passed"], target, region="topfiducial")
    return found.value, found.error


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, CUTOFF], ids=["target", "cut-off"])
def test_data_of_another_sample(folders: list[Path], target: dict[str, Any] | None) -> None:
    """Ten years of events: electrons of another seed, protons of the toy model, shifted.

    Both samples have an error of 2 to 3 % per bin that all toys share; that of the second is added to the errors
    here, that of the first the measurement knows. It leaves 0.03 on the mean coverage.
    """
    hists, meta = electrons(folders[0])
    other = electrons(folders[1], target)
    model = read_toy_model("synthetic_omega_topfiducial")
    spectrum = parse(other[1]["target_spectrum"]["electron"])
    score = hists["score"]
    edges, omega = (score.axes[n].edges for n in ("energy", "omega"))
    width = np.diff(edges)
    truth = spectrum.integral(edges[:-1], edges[1:]) / width

    def where(h: Any, kind: str) -> tuple[int, ...]:
        return tuple(
            h.axes[n].index(c)
            for n, c in zip(
                ("kind", "region", "bgo", "edge"), (kind, "topfiducial", "new", "pass"), strict=True
            )
        )

    rate = other[0]["score"].view(flow=True).value[where(other[0]["score"], "electron")]
    signal = TEN_YEARS * rate[1:-1]
    known = expectation(model, model.target_flux_integral["electron"], TEN_YEARS, shift=(1.2, 0.6))
    expected = signal[:, 1 + int(np.argmin(np.abs(omega - CUT))) :].sum(axis=1)
    meta = {**meta, "livetime_s": TEN_YEARS, "synthetic": True, "complete_above_gev": 0.0}
    meta["by_bgo"] = {"new": {**meta["by_bgo"]["new"], "livetime_s": TEN_YEARS}}

    (one, one_error), (two, two_error) = area((hists, meta)), area(other)
    used = (edges[:-1] > LEAST_GEV) & (expected > 2)
    apart = (one / two - 1)[used] / np.hypot(one_error / one, two_error / two)[used]
    assert abs(np.sum(apart**2) - used.sum()) < 4 * np.sqrt(2 * used.sum())

    rng = np.random.default_rng(63)
    view = score.view(flow=True)
    data, protons = where(score, "data"), where(score, "proton")
    pulls = np.full((TOYS, width.size), np.nan)
    for pull in pulls:
        drawn = rng.poisson(signal + known.protons)
        simulated = draw_simulation(model, rng, proton_events=50_000, proton_bulk_weight=10.0)[1]
        for at, values, variances in (
            (data, drawn, drawn),
            (protons, simulated.values, simulated.variances),
        ):
            view.value[at][1:-1], view.variance[at][1:-1] = values, variances
        table = flux_from_histograms(hists, meta, region="topfiducial", e_min_gev=LEAST_GEV)
        extra = (table.dnde * two_error / np.where(two > 0, two, 1.0)) ** 2
        off = table.dnde - truth
        sides = table.dnde_errn**2, table.dnde_errp**2
        for name, (low, high) in table.systematics.items():
            if name != "migration":
                sides = sides[0] + low**2, sides[1] + high**2
        pull[:] = off / np.sqrt(np.where(off > 0, *sides) + extra)
    many = used & (edges[:-1] > 999.0)
    found = pulls[:, many]
    assert np.isfinite(found).all()
    coverage = (np.abs(found) <= 1).mean()
    print(  # noqa: T201
        f"{many.sum()} bins up to {edges[1:][many].max():.0f} GeV: mean {found.mean():+.3f}, width "
        f"{found.std():.3f}, coverage {coverage:.3f}, samples {np.sum(apart**2):.1f}/{used.sum()}"
    )
    assert many.sum() >= 6
    assert abs(found.mean()) < 0.4  # twice what the errors of the samples leave on 8 bins
    assert 0.8 < found.std() < 1.2
    assert 0.62 < coverage < 0.78
