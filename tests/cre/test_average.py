"""``cre average`` as a user calls it, and its table in the commands that come after it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.flux import flux
from analysis.fluxtable import FluxTable, read_flux_table, write_flux_table
from cre.main import main
from cre.provenance import sha256
from processors.spectrum import ELECTRON_2017

Cre = Callable[..., tuple[int, str, str]]
EDGES = 10 ** (1.38 + 0.06 * np.arange(20, 38))
TIME = 2e8


@pytest.fixture
def cre(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cre:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cre", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def make_table(region: str, area: float, seed: int, *, edge: str = "on") -> FluxTable:
    """Toy counts of the 2017 spectrum; 5 % background; the last bin of fiducial fails."""
    rng = np.random.default_rng(seed)
    signal = ELECTRON_2017.integral(EDGES[:-1], EDGES[1:]) * area * 0.9 * TIME
    n = rng.poisson(signal * 1.05).astype(float)
    some = n > 0
    share, error = (
        np.where(some, x * signal / np.where(some, n, 1), np.nan) for x in (0.05, 0.005)
    )
    described = {"region": region, "edge_cut": edge, "bgo_reconstruction": "new", "score": "omega"}
    acceptance = np.full(n.size, area)
    if region == "fiducial":
        acceptance[-1] = np.nan
    made = flux(
        n, share, error, 0.9, 0.003, acceptance, 0.002 * acceptance, TIME, EDGES[:-1], EDGES[1:],
        meta={
            "flux": described, "synthetic": True, "toy": {"seed": seed}, "complete": True,
            "injected": {"electron": ELECTRON_2017.to_dict()}, "histograms_sha256": region * 4,
        },
    )  # fmt: skip
    return made.with_systematic("energy_scale", 0.02 * made.dnde, 0.02 * made.dnde)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write_flux_table(make_table("fiducial", 0.3, 1), tmp_path / "fiducial.ecsv"),
        write_flux_table(make_table("topfiducial", 0.22, 2), tmp_path / "top.json"),
    )


def test_products_and_what_is_said(tables: tuple[Path, Path], tmp_path: Path, cre: Cre) -> None:
    stem = tmp_path / "new" / "both"
    code, out, err = cre("average", *tables, "-o", stem, "--figures", tmp_path / "figures")
    assert code == 0, err
    assert "SYNTHETIC: not to be published as data of the experiment" in out
    assert "TOY: " in out
    assert "7 bins of fiducial alone are kept as they are" in out
    assert "top-fiducial alone" in out
    assert "systematic errors shared: energy_scale; of each region: acceptance" in out
    assert "consistency in the combined bins, 1000-" in out
    assert "consistency below them, where they are not combined, 380-1000 GeV" in out
    read = [read_flux_table(stem.with_suffix(s)) for s in (".ecsv", ".csv", ".json")]
    parts = [read_flux_table(path) for path in tables]
    one = read[0]
    for other in read[1:]:
        np.testing.assert_array_equal(other.dnde, one.dnde)
    np.testing.assert_array_equal(one.dnde[:7], parts[0].dnde[:7])
    sums = parts[0].n_data[7:16] + parts[1].n_data[7:16]
    np.testing.assert_array_equal(one.n_data[7:16], sums)
    assert one.dnde[16] == parts[1].dnde[16]
    line = next(x for x in out.splitlines() if x.startswith("   1000.0-   1148.2"))
    gain = (one.dnde_errn + one.dnde_errp)[7] / (parts[0].dnde_errn + parts[0].dnde_errp)[7]
    assert line.split()[-2:] == [f"{gain:.3f}", f"{np.sqrt(0.3 / 0.52):.3f}"]
    assert f"{one.dnde[7]:.3e}" in line
    assert one.meta["combination"]["sources"]["fiducial"]["histograms_sha256"] == "fiducial" * 4
    names = {"combination.png", "combination.pdf", "combination_gain.png", "combination_gain.pdf"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == names

    note = json.loads((tmp_path / "new" / "both.provenance.json").read_text("utf-8"))
    assert note["command"] == "average"
    assert [i["sha256"] for i in note["inputs"]] == [sha256(path) for path in tables]
    assert len(note["outputs"]) == 7
    assert note["arguments"]["e_min_gev"] == 1000.0

    code, out, err = cre("average", *tables, "-o", stem)
    assert code == 1
    assert "exists; choose another name or give --overwrite" in err
    before = stem.with_suffix(".ecsv").read_bytes()
    for order in (
        tables,
        tables[::-1],
    ):  # below 1 TeV fiducial stands alone, also if it is named last
        assert cre("average", *order, "-o", stem, "--overwrite")[0] == 0
        assert stem.with_suffix(".ecsv").read_bytes() == before


def test_other_commands_take_the_table(tables: tuple[Path, Path], tmp_path: Path, cre: Cre) -> None:
    stem = tmp_path / "both"
    assert cre("average", *tables, "-o", stem, "--e-min-gev", "0")[0] == 0
    both = stem.with_suffix(".ecsv")
    code, out, err = cre("compare", both, "--injected")
    assert code == 0, err
    assert "fiducial + top-fiducial" in out
    chi2, bins = (float(out.split()[i]) for i in (-4, -2))
    assert stats_sane(chi2, bins)
    code, out, err = cre(
        "export", both, "--latex", tmp_path / "f.tex", "--crdb", tmp_path / "f.csv"
    )
    assert code == 0, err
    code, out, err = cre(
        "break", both, "-o", tmp_path / "break", "--model", "smoothly_broken_power_law",
        "--method", "poisson", "--e-min-gev", "380",
    )  # fmt: skip
    assert code == 0, err
    fits = json.loads((tmp_path / "break.json").read_text("utf-8"))["fits"]
    found = fits[-1]["parameters"]["break_gev"]
    assert abs(found["value"] - 914) < 4 * found["error"]


def stats_sane(chi2: float, bins: float) -> bool:
    """χ² within four standard deviations of its mean."""
    return abs(chi2 - bins) < 4 * np.sqrt(2 * bins)


def test_correlations_can_be_changed(tables: tuple[Path, Path], tmp_path: Path, cre: Cre) -> None:
    errors = []
    for n, options in enumerate(([], ["--uncorrelated", "energy_scale"])):
        stem = tmp_path / f"both{n}"
        assert cre("average", *tables, "-o", stem, *options)[0] == 0
        table = read_flux_table(stem.with_suffix(".csv"))
        errors.append((table.systematics["energy_scale"][0] / table.dnde)[8])
    assert errors[0] == pytest.approx(0.02)
    weight = 0.3 / 0.52
    assert errors[1] == pytest.approx(0.02 * np.hypot(weight, 1 - weight), rel=0.01)
    code, _, err = cre("average", *tables, "-o", tmp_path / "x", "--correlated", "nothing")
    assert code == 1
    assert "no table has the systematic source 'nothing'" in err
    out = cre("average", *tables, "-o", tmp_path / "y", "--correlated", "acceptance")[1]
    assert "shared: acceptance, energy_scale; of each region: none" in out


def test_refusals(tables: tuple[Path, Path], tmp_path: Path, cre: Cre) -> None:
    code, _, err = cre("average", tables[0], tables[0], "-o", tmp_path / "x")
    assert code == 1
    assert err == (
        "error: the events of the region fiducial are in two of the tables and would count twice\n"
    )
    other = write_flux_table(make_table("topfiducial", 0.2, 2, edge="off"), tmp_path / "o.csv")
    code, _, err = cre("average", tables[0], other, "-o", tmp_path / "x")
    assert code == 1
    assert "fiducial has edge_cut 'on', top-fiducial 'off'" in err
    assert not (tmp_path / "x.ecsv").exists()
    code, _, err = cre("average", tables[0], tmp_path / "none.ecsv", "-o", tmp_path / "x")
    assert code == 1
    assert "No such file" in err
