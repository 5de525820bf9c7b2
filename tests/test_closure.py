"""Closure of the whole chain: the injected spectrum comes back, sample after sample."""

from pathlib import Path

import numpy as np
import pytest

from analysis.compare import compare_to_spectrum
from analysis.measurement import flux_from_histograms
from cre.card import read_card, run_config
from cre.commands.run import run_meta
from cre.injected import bin_average, injected_spectrum
from processors.manifest import build
from processors.run import execute, plan
from simulation.sample import Sample, simulate

ROOT = Path(__file__).parents[1]
SAMPLES = 50
SECONDS = 60_000.0


@pytest.mark.slow
def test_pulls_of_fifty_samples(tmp_path: Path) -> None:
    """50 independent samples of 60 000 s: mean pull within 0.2, width between 0.8 and 1.2."""
    data = simulate(
        Sample(
            "data", seed=50, livetime_s=SAMPLES * SECONDS, e_min_gev=95.0, e_max_gev=2000.0,
            min_deposit_gev=95.0, triggered_only=True, outside_share=0.0, n_files=SAMPLES, run_s=60_000,
        ),
        tmp_path,
    )  # fmt: skip
    electrons = simulate(
        Sample(
            "electron", seed=51, n_events=10_000_000, e_min_gev=85.0, e_max_gev=2500.0,
            min_deposit_gev=70.0, triggered_only=True, outside_share=0.2,
        ),
        tmp_path,
    )  # fmt: skip
    protons = []
    for low, high, thrown in ((95.0, 250.0, 18), (250.0, 800.0, 15), (800.0, 20_000.0, 5)):
        sample = Sample(
            "proton", seed=52, n_events=thrown * 1_000_000, e_min_gev=low, e_max_gev=high,
            min_deposit_gev=80.0, triggered_only=True, outside_share=0.2, tail_sampling=True,
        )  # fmt: skip
        protons += simulate(sample, tmp_path)
    assert len(data) == SAMPLES
    manifest = build([str(p) for p in (*data, *electrons, *protons)])
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    (tmp_path / "card.yaml").write_text((ROOT / "cre/cards/fiducial.yaml").read_text())
    card = read_card(tmp_path / "card.yaml")
    config = run_config(card, manifest.files)
    simulated = [f for f in manifest.files if f.kind != "data"]
    mc = execute(plan(simulated, card.chunk_size), config, workers=2).output["hists"]

    pulls = []
    totals = np.zeros(2)
    for file in manifest.of_kind("data"):
        files = [file, *simulated]
        result = execute(plan([file], card.chunk_size), config)
        hists = {name: h + mc[name] for name, h in result.output["hists"].items()}
        meta = run_meta(card, manifest, files, config, result)
        table = flux_from_histograms(hists, meta, e_max_gev=600.0, method="sideband")
        truth = bin_average(injected_spectrum(meta), table.e_min, table.e_max)
        comparison = compare_to_spectrum(table, truth, e_max_gev=600.0)
        exposure = (
            table.efficiency * table.acceptance * table.livetime * (table.e_max - table.e_min)
        )
        expected = truth * exposure
        used = comparison.used & (expected > 8)  # chosen by the expectation, not by what was seen
        pulls.append(comparison.pull[used])
        totals += [table.counts[used].sum(), (expected / table.efficiency)[used].sum()]
    pull = np.concatenate(pulls)
    print(f"{pull.size} pulls: mean {pull.mean():.3f}, width {pull.std(ddof=1):.3f}")  # noqa: T201
    print(f"sum of counts over expected: {totals[0] / totals[1]:.4f}")  # noqa: T201
    assert pull.size > 150
    assert abs(pull.mean()) < 0.2
    assert 0.8 < pull.std(ddof=1) < 1.2
