"""The commands as a user calls them: products, messages, exit codes; nothing overwritten or lost."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml

from analysis.fluxtable import read_flux_table
from analysis.histfile import load
from cre import card as cards
from cre import provenance
from cre.main import COMMANDS

MakeNtuple = Callable[..., Path]
ROOT = Path(__file__).parents[2]


Cre = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> Path:
    """A folder with a manifest and a card, ready to run."""
    files = [
        make_ntuple("data", n=2000, seed=1),
        make_ntuple("electron", n=1500, seed=2),
        make_ntuple("proton", n=1500, seed=3),
    ]
    assert cre("manifest", *files, "-o", tmp_path / "manifest.json")[0] == 0
    text = (ROOT / "cre/cards/fiducial.yaml").read_text()
    # toy protons lie closer to toy electrons than real ones
    text = text.replace("control: [-2.0, -1.3]", "control: [-6.0, -0.93]")
    (tmp_path / "card.yaml").write_text(text)
    return tmp_path


def test_help_names_every_command(cre: Cre) -> None:
    code, out, _ = cre("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    for name in COMMANDS:
        assert cre(name, "--help")[0] == 0
    assert provenance.program()["version"] in cre("--version")[1]


def test_chain_from_manifest_to_figures(project: Path, cre: Cre) -> None:
    code, out, err = cre("run", project / "card.yaml")
    assert code == 0, err
    assert "livetime 1000.0 s" in out
    content = load(project / "run/histograms.json.gz")
    assert content.meta["complete"]
    ledger = content.meta["ledger"]
    assert (ledger["planned"], ledger["processed"], ledger["missing"]) == (3, 3, [])
    assert content.meta["events"] == {"data": 2000, "electron": 1500, "proton": 1500}
    assert content.meta["synthetic"]
    for suffix in (".pkl", ".root"):
        other = load(project / f"run/histograms{suffix}")
        assert other.meta == content.meta
        for name, h in content.hists.items():
            np.testing.assert_array_equal(h.values(), other.hists[name].values())
    record = json.loads((project / "run/provenance.json").read_text())
    assert record["exit_code"] == 0
    assert record["cutflow"]["data/fiducial"][0]["evaluated"] == 2000
    assert {Path(o["path"]).name for o in record["outputs"]} == {
        "histograms.pkl", "histograms.json.gz", "histograms.root",
    }  # fmt: skip

    code, out, err = cre("status", project / "run")
    assert code == 0
    assert "chunks: 3 of 3 processed" in out
    assert json.loads(cre("status", project / "run", "--json")[1])["state"] == "complete"

    code, out, err = cre("flux", project / "run/histograms.pkl", "-o", project / "flux")
    assert code == 0, err
    assert "SYNTHETIC" in out
    table = read_flux_table(project / "flux.csv")
    assert table.success.any()
    assert table.meta["histograms_sha256"] == provenance.sha256(project / "run/histograms.pkl")
    code, out, err = cre("compare", project / "flux.ecsv", "--with", "calet_2023_electron_positron")
    assert code == 0, err
    assert "chi2" in out
    code, out, err = cre("compare", project / "flux.ecsv", "--injected")
    assert code == 1
    assert "name no injected spectrum" in err
    assert "dampe_2017_electron_positron" in cre("compare", "--list")[1]
    assert cre("compare")[0] == 1

    figures = project / "figures"
    code, out, err = cre(
        "plot", project / "run/histograms.root", "--flux", project / "flux.json", "-o", figures
    )
    assert code == 0, err
    assert (figures / "flux.png").stat().st_size > 10_000
    data = project / "DmlNtup_synthetic_data_1.root"
    code, out, err = cre("display", data, "--entry", 3, "-o", figures / "event")
    assert code == 0, err
    assert (figures / "event.pdf").exists()
    assert cre("display", data, "--entry", 2000, "-o", figures / "none")[0] == 1


def test_outputs_are_not_overwritten(project: Path, cre: Cre) -> None:
    assert cre("run", project / "card.yaml")[0] == 0
    before = (project / "run/histograms.pkl").read_bytes()
    code, _, err = cre("run", project / "card.yaml")
    assert code == 1
    assert "exists; choose another --output or give --overwrite" in err
    assert (project / "run/histograms.pkl").read_bytes() == before
    # the same run gives the same bytes
    assert cre("run", project / "card.yaml", "--overwrite")[0] == 0
    assert (project / "run/histograms.pkl").read_bytes() == before
    (project / "flux.csv").write_text("mine")
    code, _, err = cre("flux", project / "run/histograms.pkl", "-o", project / "flux")
    assert code == 1
    assert (project / "flux.csv").read_text() == "mine"
    assert not (project / "flux.ecsv").exists()
    manifest = project / "manifest.json"
    assert cre("manifest", project / "DmlNtup_synthetic_data_1.root", "-o", manifest)[0] == 1


def test_a_lost_file_makes_the_run_incomplete(project: Path, cre: Cre) -> None:
    (project / "DmlNtup_synthetic_electron_2.root").unlink()
    code, _, err = cre("run", project / "card.yaml")
    assert code == 2
    assert "1 of 3 chunks are missing" in err
    assert "DmlNtup_synthetic_electron_2.root [0:1500]" in err
    code, out, err = cre("status", project / "run")
    assert code == 2
    assert "incomplete" in out
    code, _, err = cre("flux", project / "run/histograms.pkl", "-o", project / "flux")
    assert code == 2
    assert "incomplete" in err
    assert not (project / "flux.csv").exists()
    assert json.loads((project / "run/provenance.json").read_text())["exit_code"] == 2


def test_truncated_file_after_the_manifest(project: Path, cre: Cre) -> None:
    path = project / "DmlNtup_synthetic_data_1.root"
    path.write_bytes(path.read_bytes()[:50_000])
    code, _, err = cre("run", project / "card.yaml")
    assert code == 2
    assert "DmlNtup_synthetic_data_1.root" in err


def test_nan_energies_stop_the_run(make_ntuple: MakeNtuple, project: Path, cre: Cre) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_bgoTotalEcorr_GeV"][:3] = np.nan

    bad = make_ntuple("data", n=100, seed=9, run=5, change=spoil)
    good = [project / f"DmlNtup_synthetic_{k}.root" for k in ("electron_2", "proton_3")]
    assert cre("manifest", bad, *good, "-o", project / "manifest.json", "--overwrite")[0] == 0
    code, _, err = cre("run", project / "card.yaml")
    assert code == 2
    assert "3 of 3100 events have a NaN or infinite e_corr" in err
    assert cre("status", project / "run")[0] == 2
    assert cre("flux", project / "run/histograms.pkl", "-o", project / "flux")[0] == 2
    text = (project / "card.yaml").read_text()
    (project / "card.yaml").write_text(
        text.replace("max_nonfinite_fraction: 0.0", "max_nonfinite_fraction: 0.01")
    )
    code, _, err = cre("run", project / "card.yaml", "--overwrite")
    assert code == 0, err


def test_a_dead_run_is_told_from_a_running_one(project: Path, cre: Cre) -> None:
    folder = project / "run"
    folder.mkdir()
    state = {"state": "running", "pid": os.getpid(), "host": socket.gethostname(), "planned": 3}
    (folder / "status.json").write_text(json.dumps(state | {"processed": 1, "events": "1 of 3"}))
    assert cre("status", folder)[0] == 0
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, stdout=-1
    )
    (folder / "status.json").write_text(
        json.dumps(state | {"pid": int(dead.stdout), "processed": 1, "events": "1 of 3"})
    )
    code, out, err = cre("status", folder)
    assert code == 2
    assert "interrupted" in out
    assert "start it again" in err


def test_sentences_for_what_cannot_be_opened(
    project: Path, cre: Cre, tmp_path: Path, make_ntuple: MakeNtuple
) -> None:
    assert cre("run", project / "card.yaml")[0] == 0
    histograms = project / "run/histograms.pkl"
    code, _, err = cre("plot", histograms, "--flux", tmp_path / "none.ecsv", "-o", tmp_path / "f")
    assert code == 1
    assert "none.ecsv" in err
    assert cre("flux", histograms, "-o", tmp_path / "new/folder/flux")[0] == 0
    code, _, err = cre("flux", histograms, "-o", tmp_path / "empty", "--e-min-gev", 9000)
    assert code == 2
    assert "no energy bin lies inside" in err
    code, _, err = cre(
        "flux", histograms, "-o", tmp_path / "none", "--e-min-gev", 9000, "--method", "sideband"
    )
    assert code == 2
    assert "no bin has a flux" in err
    bare = make_ntuple("electron", record=False, name="bare.root")
    code, _, err = cre(
        "manifest",
        bare,
        "-o",
        tmp_path / "m.json",
        "--generated",
        5,
        "--e-min-gev",
        9,
        "--e-max-gev",
        1,
    )
    assert code == 1
    assert "must be above e_min_gev" in err
    (tmp_path / "nothing.root").touch()
    assert "the file is empty" in cre("inspect", tmp_path / "nothing.root")[2]
    with uproot.recreate(tmp_path / "rntuple.root") as file:
        file.mkrntuple("DmlNtup", {"x": np.arange(3.0)})
    assert "a TTree is needed" in cre("inspect", tmp_path / "rntuple.root")[2]


def test_dry_run_reads_nothing(project: Path, cre: Cre) -> None:
    code, _, err = cre("run", project / "card.yaml", "--dry-run")
    assert code == 0
    assert "3 files, 3 chunks, 5000 events" in err
    assert not (project / "run").exists()


def test_a_missing_branch_is_found_before_the_run(
    make_ntuple: MakeNtuple, project: Path, cre: Cre
) -> None:
    bare = make_ntuple("data", seed=8, drop=("tt_psdChargeY",))
    assert cre("manifest", bare, "-o", project / "manifest.json", "--overwrite")[0] == 0
    code, _, err = cre("run", project / "card.yaml")
    assert code == 1
    assert "'psd_charge_y', which cut 'psd_charge' needs" in err


def test_files_with_bits_only(make_ntuple: MakeNtuple, project: Path, cre: Cre) -> None:
    """Ntuples without intercepts and track details, as the collaboration's are."""
    details = [
        f"tt_stkTrack{x}" for x in ("NClusX", "NClusY", "NHoleX", "NHoleY", "Distance", "Angle")
    ]
    details += ["tt_bgoRecInterceptX", "tt_bgoRecInterceptY", "tt_psdMatchX", "tt_psdChargeX"]
    data = make_ntuple("data", n=500, seed=21, drop=tuple(details))
    assert cre("manifest", data, "-o", project / "manifest.json", "--overwrite")[0] == 0
    content = yaml.safe_load((project / "card.yaml").read_text())
    content["regions"] = ["fiducial"]
    content["cuts"] = [
        "saa", "trigger", "energy_range", "max_layer_ratio", "edge", "fiducial_bit", "n_bar_layer13",
        "max_rms", "low_energy_cleaning", "track_bit",
    ]  # fmt: skip
    (project / "card.yaml").write_text(yaml.safe_dump(content))
    code, _, err = cre("run", project / "card.yaml")
    assert code == 0, err
    hists = load(project / "run/histograms.pkl").hists
    assert hists["score"]["data", "fiducial", "new", "pass", :, :].sum(flow=True).value > 20
    assert hists["score"]["data", "topfiducial", "new", "pass", :, :].sum(flow=True).value == 0


def test_manifest_problems_and_quarantine(
    make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre
) -> None:
    good = make_ntuple("data", seed=1, run=1)
    broken = tmp_path / "broken.root"
    broken.write_bytes(good.read_bytes()[:1000])
    target = tmp_path / "m.json"
    code, _, err = cre("manifest", good, broken, "-o", target)
    assert code == 1
    assert "broken.root: not a readable ROOT file" in err
    assert not target.exists()
    code, out, err = cre("manifest", good, broken, "-o", target, "--quarantine", broken)
    assert code == 0
    assert "quarantined" in err
    assert "livetime: 1000.0 s" in out
    assert cre("manifest", good, "-o", target, "--overwrite", "--generated", 5)[0] == 1
    empty = make_ntuple("data", n=0, seed=6, run=6)
    code, _, err = cre("manifest", empty, "-o", target, "--overwrite")
    assert code == 0
    assert "has no events" in err


def test_real_ntuples_without_a_record(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> None:
    data = make_ntuple("data", run=4, name="real.root", record=False)
    electrons = make_ntuple("electron", seed=2, name="mc.root", record=False)
    (tmp_path / "live.csv").write_text("file,run_first,run_last,livetime_s\nreal.root,4,4,86400\n")
    code, out, err = cre(
        "manifest", data, "-o", tmp_path / "d.json", "--kind", "data",
        "--bgo-reconstruction", "new", "--livetime", tmp_path / "live.csv",
    )  # fmt: skip
    assert code == 0, err
    assert "livetime: 86400.0 s" in out
    code, out, err = cre(
        "manifest", electrons, "-o", tmp_path / "e.json", "--kind", "electron",
        "--bgo-reconstruction", "new", "--generated", 1000, "--e-min-gev", 10, "--e-max-gev", 100, "--weights", "none",
    )  # fmt: skip
    assert code == 0, err
    stored = json.loads((tmp_path / "e.json").read_text())
    assert stored["files"][0]["generated"]["events"] == 1000
    both = [tmp_path / "d.json", tmp_path / "e.json"]
    code, out, err = cre("manifest", *both, "--join", "-o", tmp_path / "m.json")
    assert code == 0, err
    assert [f["kind"] for f in json.loads((tmp_path / "m.json").read_text())["files"]] == [
        "data", "electron",
    ]  # fmt: skip
    code, _, err = cre("manifest", both[0], both[0], "--join", "-o", tmp_path / "n.json")
    assert code == 1
    assert "the same file" in err


def test_inspect(make_ntuple: MakeNtuple, tmp_path: Path, cre: Cre) -> None:
    path = make_ntuple("electron", drop=("tt_stkTrackAngle",))
    code, out, _ = cre("inspect", path, "--check")
    assert code == 0
    assert "cut 'track' is not available: it needs track_angle" in out
    assert "edge cut: bit against image: 0.00%" in out
    report = json.loads(cre("inspect", path, "--json")[1])
    assert report["fields"]["e_true"] == "tt_ekin"
    assert report["disabled"] == {"track": ["track_angle"]}
    assert "every cut is available" in cre("inspect", make_ntuple("data"))[1]
    code, _, err = cre("inspect", tmp_path / "none.root")
    assert code == 1
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"colour": "red"}, "colour: no such key", id="key"),
        pytest.param({"cuts": ["trigger"]}, "needs the entry 'region'", id="no region"),
        pytest.param(
            {"cuts": ["region", {"max_rms": {"max_cm": 1}}]}, "no value 'max_cm'", id="value"
        ),
        pytest.param({"cuts": ["region", 3]}, "a cut is a name", id="cut"),
        pytest.param(
            {"score": {"name": "dnn", "cut": 1, "control": [0, 1]}},
            "score 'dnn' has no model for the fiducial region",
            id="s",
        ),
        pytest.param({"score": {"cut": 0, "control": [0, 1]}}, "must ascend", id="control"),
        pytest.param({"target": {}}, "a spectrum for each of electron, proton", id="target"),
        pytest.param({"chunk_size": 0}, "chunk_size", id="chunk"),
        pytest.param({"regions": ["everywhere"]}, "regions", id="region"),
        pytest.param({"manifest": "none.json"}, "cannot be read", id="manifest"),
        pytest.param({"bgo_reconstruction": "old"}, "no file with the 'old'", id="old"),
    ],
)
def test_wrong_cards(project: Path, cre: Cre, change: dict[str, Any], complaint: str) -> None:
    content = yaml.safe_load((project / "card.yaml").read_text())
    (project / "card.yaml").write_text(yaml.safe_dump(content | change))
    code, _, err = cre("run", project / "card.yaml")
    assert code == 1
    assert complaint in err
    assert not (project / "run").exists()


def test_cards_that_cannot_be_read(tmp_path: Path, cre: Cre) -> None:
    assert cre("run", tmp_path / "none.yaml")[0] == 1
    (tmp_path / "bad.yaml").write_text("name: [")
    code, _, err = cre("run", tmp_path / "bad.yaml")
    assert code == 1
    assert "is no YAML" in err


def test_shipped_card_says_what_it_means() -> None:
    other = cards.read_card(ROOT / "cre/cards/perugia.yaml")
    assert other.cuts[-1].name == "edge_from_image"
    card = cards.read_card(ROOT / "cre/cards/fiducial.yaml")
    assert 10**-card.score.cut == pytest.approx(8.5, rel=2e-3)
    assert 10 ** -card.score.control[1] == pytest.approx(20, rel=5e-3)
    assert 10 ** -card.score.control[0] == 100
    assert card.as_dict()["cuts"][0] == {"saa": {"kinds": ["data"]}}


def test_usage_errors_are_the_users(cre: Cre, tmp_path: Path) -> None:
    assert cre("nonsense")[0] == 1
    assert cre("run", tmp_path, "--workers", "none")[0] == 1
    code, _, err = cre("status", tmp_path)
    assert code == 1
    assert "output folder of a run" in err
    code, _, err = cre("flux", tmp_path / "none.pkl", "-o", tmp_path / "f")
    assert code == 1
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    code, _, err = cre("flux", tmp_path / "evil.pkl", "-o", tmp_path / "f")
    assert code == 1
    assert "system" in err
