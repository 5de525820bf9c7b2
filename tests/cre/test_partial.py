"""Periods, incomplete runs and the stability in time as a user meets them: exit codes, livetimes, marks on figures."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import yaml
from ntuples import dmlntup_branches, sample_record, toy_events

from analysis.fluxtable import read_flux_table
from analysis.histfile import load
from analysis.plots import style

Cre = Callable[..., tuple[int, str, str]]
MakeNtuple = Callable[..., Path]
ROOT = Path(__file__).parents[2]
MARK = "partial: 60.0 % of the livetime"
#: Runs of the three data files: month of 2016 and livetime.
RUNS = {1: (1, 2000.0), 2: (2, 4000.0), 3: (5, 4000.0)}


def record(run: int) -> dict[str, Any]:
    month, livetime = RUNS[run]
    start = (
        datetime(2016, month, 3, tzinfo=UTC) - datetime(2013, 1, 1, tzinfo=UTC)
    ).total_seconds()
    runs = [{"run": run, "start_s": start, "stop_s": start + 6000.0, "livetime_s": livetime}]
    return sample_record("data") | {"runs": runs}


def with_electrons(run: int) -> Callable[[dict[str, Any]], None]:
    """As many electrons as protons in a data file, behind them."""

    def change(branches: dict[str, Any]) -> None:
        events = toy_events(900, 20 + run, kind="electron")
        for name, values in dmlntup_branches(events, kind="data", run=run).items():
            branches[name] = ak.concatenate([branches[name], values])
            if not isinstance(values, ak.Array):
                branches[name] = ak.to_numpy(branches[name])

    return change


@pytest.fixture
def project(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> Path:
    files = [
        make_ntuple(
            "data",
            n=900,
            seed=n,
            run=n,
            record=record(n),
            name=f"data{n}.root",
            change=with_electrons(n),
        )
        for n in RUNS
    ]
    files += [make_ntuple("electron", n=1500, seed=11), make_ntuple("electron", n=900, seed=12)]
    files += [make_ntuple("proton", n=1500, seed=13)]
    assert cre("manifest", *files, "-o", tmp_path / "manifest.json")[0] == 0
    text = (ROOT / "cre/cards/fiducial.yaml").read_text()
    text = text.replace("control: [-2.0, -1.3]", "control: [-6.0, -0.93]")
    (tmp_path / "card.yaml").write_text(text)
    return tmp_path


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Folder and name to the head of every figure; drawing the lines and points takes too long here."""
    found: dict[str, str] = {}

    def spy(figure: Any, paths: list[Path]) -> None:
        head = "" if figure._suptitle is None else figure._suptitle.get_text()
        found[f"{paths[0].parent.name}/{paths[0].stem}"] = head
        for path in paths:
            path.write_text(head)

    monkeypatch.setattr(style, "_write", spy)
    return found


def test_an_incomplete_run_is_refused_or_marked_everywhere(
    project: Path, cre: Cre, heads: dict[str, str]
) -> None:
    damage(project / "data2.root")
    code, _, err = cre("run", project / "card.yaml", "-o", project / "run")
    assert code == 2
    assert "data2.root" in err
    file = project / "run/histograms.json.gz"
    meta = load(file).meta
    assert meta["livetime_s"] == 6000.0
    assert meta["planned_livetime_s"] == 10_000.0
    assert meta["events"]["data"] == 3600
    assert meta["runs"] == [[1, 1], [3, 3]]
    assert {k: v["livetime_s"] for k, v in meta["months"].items()} == {
        "2016-01": 2000.0, "2016-05": 4000.0,
    }  # fmt: skip
    ledger = meta["ledger"]
    assert ledger["incomplete_files"] == [str(project / "data2.root")]
    assert ledger["planned_files"]["data"] == {
        "files": 3, "entries": 5400, "runs": 3, "livetime_s": 10_000.0,
    }  # fmt: skip
    assert ledger["files"]["data"]["livetime_s"] == 6000.0
    assert len([f for f in meta["inputs"] if f["kind"] == "data"]) == 2

    tables = []
    for region in ("fiducial", "topfiducial"):
        options = (
            "--region",
            region,
            "--method",
            "sideband",
            "--migration",
            "none",
            "--e-max-gev",
            1000,
        )
        code, _, err = cre("flux", file, "-o", project / region, *options)
        assert code == 2
        assert "--partial" in err
        assert not (project / f"{region}.ecsv").exists()
        code, out, err = cre("flux", file, "-o", project / region, *options, "--partial")
        assert code == 0, err
        assert "PARTIAL: 60.0 % of the planned livetime, 6000.0 s of 10000.0 s" in out
        tables.append(project / f"{region}.ecsv")
    table = read_flux_table(tables[0])
    assert np.all(table.livetime == 6000.0)
    assert table.meta["partial"] == {
        "livetime_s": 6000.0, "planned_livetime_s": 10_000.0, "share": 0.6,
    }  # fmt: skip

    assert cre("fit", file, "-o", project / "fit")[0] == 2
    assert cre("stability", file, "-o", project / "stability")[0] == 2
    for command in (
        ("fit", file, "-o", project / "fit", "--partial", "--shift-order", "none", "--e-min-gev", 100, "--e-max-gev", 600),
        ("plot", file, "--flux", tables[0], "-o", project / "figures"),
        ("regions", file, "--flux", *tables, "-o", project / "regions"),
        ("average", *tables, "-o", project / "both", "--e-min-gev", 100, "--figures", project / "both_figures"),
        ("break", tables[0], "-o", project / "break", "--e-min-gev", 100, "--method", "quadrature"),
        ("stability", file, "-o", project / "stability", "--partial", "--e-min-gev", 100, "--e-max-gev", 4000),
        ("parametrise", file, "-o", project / "shapes.json"),
    ):  # fmt: skip
        before = len(heads)
        code, _, err = cre(*command)
        assert code in {0, 3}, (command, err)  # toy ntuples: a fit may not converge
        assert len(heads) > before, command
    assert {
        "fit/postfit", "figures/flux", "figures/acceptance", "figures/stability", "regions/flux_regions",
        "both_figures/combination",
    } <= heads.keys()  # fmt: skip
    assert {name for name, head in heads.items() if MARK not in head} == set()


def test_a_complete_run_has_no_mark(project: Path, cre: Cre, heads: dict[str, str]) -> None:
    assert cre("run", project / "card.yaml", "-o", project / "run")[0] == 0
    file = project / "run/histograms.json.gz"
    assert load(file).meta["livetime_s"] == 10_000.0
    code, out, _ = cre(
        "flux", file, "-o", project / "flux", "--region", "fiducial", "--method", "sideband"
    )
    assert code == 0
    assert "PARTIAL" not in out
    assert "partial" not in read_flux_table(project / "flux.csv").meta
    code, out, _ = cre(
        "stability", file, "-o", project / "stability", "--e-min-gev", 100, "--e-max-gev", 4000
    )
    assert code == 0
    content = json.loads((project / "stability.json").read_text())
    assert [m["month"] for m in content["months"]] == ["2016-01", "2016-02", "2016-05"]
    assert [m["livetime_s"] for m in content["months"]] == [2000.0, 4000.0, 4000.0]
    assert content["partial"] is None
    assert content["tests"]["rate"]["ndf"] == 2
    # the same events in half the time: the rate of January is twice that of the other months
    assert content["tests"]["rate"]["p_value"] < 1e-3
    assert "drift" in out
    assert not any("partial" in head for head in heads.values())
    assert cre("stability", file, "-o", project / "stability")[0] == 1  # nothing is overwritten


def test_missing_simulation_is_refused_also_as_partial(project: Path, cre: Cre) -> None:
    damage(project / "DmlNtup_synthetic_electron_12.root")
    assert cre("run", project / "card.yaml", "-o", project / "run")[0] == 2
    code, _, err = cre(
        "flux", project / "run/histograms.pkl", "-o", project / "flux", "--partial",
        "--region", "fiducial",
    )  # fmt: skip
    assert code == 2
    assert "1 of 2 files of simulated electrons are missing" in err
    assert "manifest without these files" in err


@pytest.mark.parametrize(
    ("period", "livetime", "months"),
    [
        ({"from": "2016-02-01", "to": "2016-04-30"}, 4000.0, ["2016-02"]),
        ({"from": "2016-02-03"}, 8000.0, ["2016-02", "2016-05"]),
        ({"last_run": 2}, 6000.0, ["2016-01", "2016-02"]),
    ],
)
def test_a_period_of_the_card(
    project: Path, cre: Cre, period: dict[str, Any], livetime: float, months: list[str]
) -> None:
    card = yaml.safe_load((project / "card.yaml").read_text())
    (project / "part.yaml").write_text(yaml.safe_dump(card | {"period": period}))
    code, out, err = cre("run", project / "part.yaml", "-o", project / "part")
    assert code == 0, err
    assert f"livetime {livetime:.1f} s" in out
    content = load(project / "part/histograms.root")
    assert content.meta["livetime_s"] == content.meta["planned_livetime_s"] == livetime
    assert list(content.meta["months"]) == months
    assert content.meta["card"]["period"]["last_run"] == period.get("last_run")
    assert content.meta["period"].startswith("from 2016-02" if "from" in period else "to run 2")
    assert content.meta["ledger"]["files"]["electron"]["files"] == 2
    code, _, err = cre(
        "flux", project / "part/histograms.root", "-o", project / "flux", "--region", "fiducial",
        "--method", "sideband",
    )  # fmt: skip
    assert code == 0, err
    assert read_flux_table(project / "flux.ecsv").meta["period"] == content.meta["period"]


def test_an_empty_or_wrong_period_is_an_error(project: Path, cre: Cre) -> None:
    card = yaml.safe_load((project / "card.yaml").read_text())
    for period, text in (
        ({"from": "2020-01-01"}, "no run of the period from 2020-01-01"),
        ({"from": "2016-01-01", "first_run": 1}, "by dates"),
        ({"from": "yesterday"}, "period.from"),
    ):
        (project / "part.yaml").write_text(yaml.safe_dump(card | {"period": period}))
        code, _, err = cre("run", project / "part.yaml", "-o", project / "part")
        assert code == 1
        assert text in err, err
