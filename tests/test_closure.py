"""Closure of the whole chain: the injected spectrum comes back, sample after sample."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.compare import compare_to_spectrum
from analysis.measurement import flux_from_histograms
from cre.card import read_card, run_config
from cre.injected import bin_average, injected_spectrum
from cre.runmeta import run_meta
from processors.manifest import build
from processors.run import execute, plan
from simulation.sample import Sample, simulate

ROOT = Path(__file__).parents[1]
Files = list[Path]


def simulated(folder: Path, data: dict[str, Any], common: dict[str, Any], thrown: int) -> Files:
    """Samples of data, and one simulation for all; ``thrown`` million electrons and protons in proportion."""
    data = {"e_min_gev": 95.0, "min_deposit_gev": 95.0, "triggered_only": True, **data}
    files = simulate(Sample("data", outside_share=0.0, **data), folder)
    common = {"seed": 51, "triggered_only": True, **common}
    events = {"n_events": thrown * 1_000_000, "e_min_gev": 85.0, "min_deposit_gev": 70.0}
    files += simulate(Sample("electron", e_max_gev=2500.0, **common, **events), folder)
    for low, high, share in ((95.0, 250.0, 1.8), (250.0, 800.0, 1.5), (800.0, 20_000.0, 0.5)):
        events = {"n_events": int(thrown * share * 1e6), "e_min_gev": low, "e_max_gev": high}
        sample = Sample("proton", min_deposit_gev=80.0, tail_sampling=True, **common, **events)
        files += simulate(sample, folder)
    return files


def pulls(
    folder: Path, files: Files, card_name: str, least: float, **settings: Any
) -> tuple[np.ndarray, float]:
    """Pulls of the flux below 600 GeV of all samples, and counts over expected counts.

    Bins with more than ``least`` expected events: chosen by the expectation, not by what was seen.
    """
    manifest = build([str(p) for p in files])
    (folder / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    (folder / "card.yaml").write_text((ROOT / "cre/cards" / card_name).read_text())
    card = read_card(folder / "card.yaml")
    config = run_config(card, manifest.files)
    others = [f for f in manifest.files if f.kind != "data"]
    mc = execute(plan(others, card.chunk_size), config, workers=2).output["hists"]
    found, totals = [], np.zeros(2)
    for file in manifest.of_kind("data"):
        result = execute(plan([file], card.chunk_size), config)
        hists = {name: h + mc[name] for name, h in result.output["hists"].items()}
        meta = run_meta(card, manifest, [file, *others], config, result)
        table = flux_from_histograms(hists, meta, e_max_gev=600.0, **settings)
        truth = bin_average(injected_spectrum(meta), table.e_min, table.e_max)
        comparison = compare_to_spectrum(table, truth, e_max_gev=600.0)
        exposure = (
            table.efficiency * table.acceptance * table.livetime * (table.e_max - table.e_min)
        )
        expected = truth * exposure
        used = comparison.used & (expected > least)
        found.append(comparison.pull[used])
        totals += [table.counts[used].sum(), (expected / table.efficiency)[used].sum()]
    return np.concatenate(found), float(totals[0] / totals[1])


@pytest.mark.slow
def test_pulls_of_fifty_samples(tmp_path: Path) -> None:
    """50 independent samples of 60 000 s: mean pull within 0.2, width between 0.8 and 1.2."""
    data = {"seed": 50, "livetime_s": 3_000_000.0, "n_files": 50, "run_s": 60_000}
    files = simulated(tmp_path, data | {"e_max_gev": 2000.0}, {"outside_share": 0.2}, 10)
    pull, ratio = pulls(tmp_path, files, "fiducial.yaml", 8.0, method="sideband")
    print(f"{pull.size} pulls: mean {pull.mean():.3f}, width {pull.std(ddof=1):.3f}, {ratio:.4f}")  # noqa: T201
    assert pull.size > 150
    assert abs(pull.mean()) < 0.2
    assert 0.8 < pull.std(ddof=1) < 1.2


@pytest.mark.slow
def test_pulls_of_samples_that_leak(tmp_path: Path) -> None:
    """The same for 20 samples of 50 000 s of top-fiducial events: networks, their energies, fit and folding."""
    region = {"full_region": "topfiducial"}
    data = {"seed": 53, "livetime_s": 1_000_000.0, "n_files": 20, "run_s": 50_000, **region}
    common = {"outside_share": 0.0, **region}
    files = simulated(tmp_path, data | {"e_max_gev": 2000.0}, common, 10)
    pull, ratio = pulls(tmp_path, files, "topfiducial.yaml", 5.0, region="topfiducial")
    print(f"{pull.size} pulls: mean {pull.mean():.3f}, width {pull.std(ddof=1):.3f}, {ratio:.4f}")  # noqa: T201
    assert pull.size > 60
    assert abs(pull.mean()) < 0.3
    assert 0.75 < pull.std(ddof=1) < 1.25
