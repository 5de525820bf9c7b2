"""``cre export`` of flux tables as a user calls it; of networks: tests/train/test_export.py."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.flux import flux
from analysis.fluxtable import FluxTable, write_flux_table
from cre.provenance import sha256

Cre = Callable[..., tuple[int, str, str]]


def make_table(region: str, *, synthetic: bool = True, efficiency: float = 0.9) -> FluxTable:
    return flux(
        [900, 400, 0],
        [0.1, 0.1, np.nan],
        [0.01, 0.01, np.nan],
        [efficiency, 0.0, efficiency],
        0.01,
        0.3,
        0.01,
        1e7,
        [100, 200, 300],
        [200, 300, 400],
        meta={"flux": {"region": region}, "synthetic": synthetic},
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_flux_table(make_table("fiducial"), tmp_path / "flux.ecsv")


def test_all_forms_at_once(table: Path, tmp_path: Path, cre: Cre) -> None:
    top = write_flux_table(make_table("topfiducial"), tmp_path / "top.json")
    folder = tmp_path / "new" / "submission"
    forms = ("--hepdata", folder, "--crdb", tmp_path / "f.usine", "--latex", tmp_path / "f.tex")
    code, out, err = cre("export", table, top, *forms)
    assert code == 0, err
    assert "fiducial: 1 bins, 1 upper limits" in out
    assert out.count("SYNTHETIC: not to be published as data of the experiment") == 2
    assert "left out 200.0 to 300.0 GeV: no efficiency" in out
    assert "DAMPE, 2015/12-2025/10, publication unpublished, energy scale not given" in out
    assert f"wrote {folder} and submission.tar.gz" in out
    documents = list(yaml.safe_load_all((folder / "submission.yaml").read_text("utf-8")))
    assert [d["name"] for d in documents[1:]] == [
        "SYNTHETIC flux fiducial",
        "SYNTHETIC flux topfiducial",
    ]
    lines = [x for x in (tmp_path / "f.usine").read_text().splitlines() if x[0] != "#"]
    assert [x.split()[1] for x in lines] == [
        *["DAMPE-SYNTHETIC-fiducial(2015/12-2025/10)"] * 2,
        *["DAMPE-SYNTHETIC-topfiducial(2015/12-2025/10)"] * 2,
    ]
    assert (tmp_path / "f.tex").read_text().count(r"\begin{longtable}") == 2

    note = json.loads((tmp_path / "new" / "submission.provenance.json").read_text())
    assert [i["sha256"] for i in note["inputs"]] == [sha256(table), sha256(top)]
    archive = tmp_path / "new" / "submission.tar.gz"
    assert note["outputs"][-1] == {"path": str(archive), "sha256": sha256(archive)}
    assert len(note["outputs"]) == 4
    assert note["arguments"]["publication"] == "unpublished"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "f.tex", "f.tex.provenance.json", "f.usine", "f.usine.provenance.json", "flux.ecsv", "new",
        "top.json",
    ]  # fmt: skip

    before = archive.read_bytes()
    notes = (tmp_path / "f.tex.provenance.json").read_bytes()
    code, _, err = cre("export", table, "--latex", tmp_path / "f.tex")
    assert (code, "f.tex exists" in err) == (1, True)
    assert (tmp_path / "f.tex.provenance.json").read_bytes() == notes
    assert cre("export", table, top, *forms, "--overwrite")[0] == 0
    assert archive.read_bytes() == before


def test_what_is_said_of_the_data(tmp_path: Path, cre: Cre) -> None:
    table = write_flux_table(make_table("fiducial", synthetic=False), tmp_path / "flux.csv")
    said = ("--dates", "2015/12-2017/06", "--publication", "2017Natur.552...63D")
    more = ("--experiment", "DAMPE-2", "--energy-scale-error", "0.013")
    code, out, err = cre("export", table, "--crdb", tmp_path / "f.csv", *said, *more)
    assert code == 0, err
    assert "SYNTHETIC" not in out
    assert "CRDB: DAMPE-2, 2015/12-2017/06, publication 2017Natur.552...63D, energy scale" in out
    row = (tmp_path / "f.csv").read_text().splitlines()[-1].split(",")
    assert row[0] == "DAMPE-2"
    assert "SYNTHETIC" not in ",".join(row)
    code, _, err = cre("export", table, "--crdb", tmp_path / "g.csv", "--dates", "2016/01-2016/02")
    assert (code, "does not fit into 2016/01-2016/02" in err) == (1, True)
    assert not (tmp_path / "g.csv").exists()


def test_wrong_calls(table: Path, tmp_path: Path, cre: Cre) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    onnx = tmp_path / "network.onnx"
    text = tmp_path / "notes.csv"
    text.write_text("# meta:\n#   schema: something else\na,b\n1,2\n")
    tex = ("--latex", tmp_path / "f.tex")
    (tmp_path / "more").mkdir()
    copy = write_flux_table(make_table("fiducial"), tmp_path / "more" / "flux.csv")
    for arguments, said in (
        ((empty,), "holds no checkpoint.pt; give the folder of a training"),
        ((empty, table), "give one training folder, or flux tables only"),
        ((table, empty), "give one training folder, or flux tables only"),
        ((empty, *tex), "--latex does not go with a training folder"),
        ((empty, "--dates", "2015/12-2025/10"), "--dates does not go with a training folder"),
        ((table,), "say what to write: --hepdata FOLDER, --crdb FILE, --latex FILE"),
        ((table, "-o", onnx), "--output does not go with flux tables"),
        ((table, "--zoo", empty, *tex), "--zoo does not go with flux tables"),
        ((table, "--dates", "2016/01-2016/12", *tex), "--dates does not go with what is to be"),
        ((table, "--publication", "x", *tex), "--publication does not go with"),
        ((tmp_path / "flux.json", *tex), "flux.json does not exist"),
        ((text, *tex), "notes.csv is not a usable flux table"),
        ((table, table, *tex), "one path is given twice"),
        ((table, "--crdb", table, "--overwrite"), "one path is given twice"),
        ((table, "--crdb", tmp_path / "f.csv", "--latex", tmp_path / "f.csv"), "given twice"),
        ((table, copy, *tex), "2 tables would both be called 'flux'"),
        ((table, "--crdb", tmp_path / "f.dat"), "use .usine or .csv"),
        (
            (table, "--crdb", tmp_path / "f.csv", "--dates", "always"),
            "must look like 2015/12-2025/10",
        ),
        ((), "Missing argument"),
    ):
        code, _, err = cre("export", *arguments)
        assert code == 1, arguments
        assert said in err, arguments
    for name in ("f.tex", "f.dat", "f.csv", "network.onnx"):
        assert not (tmp_path / name).exists()
    assert not list(empty.iterdir())


def test_a_table_without_a_flux_is_incomplete(tmp_path: Path, cre: Cre) -> None:
    dead = write_flux_table(make_table("fiducial", efficiency=0.0), tmp_path / "dead.ecsv")
    code, _, err = cre("export", dead, "--latex", tmp_path / "f.tex")
    assert code == 2
    assert "no bin has a flux or an upper limit (100.0 to 400.0 GeV: no efficiency" in err


def test_without_hepdata_lib(
    table: Path, tmp_path: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hepdata_lib", None)
    code, _, err = cre("export", table, "--hepdata", tmp_path / "out")
    assert code == 1
    assert "pip install -e '.[hepdata]'" in err
    assert not (tmp_path / "out").exists()
    assert cre("export", table, "--latex", tmp_path / "f.tex")[0] == 0


def test_a_training_folder_still_goes_to_the_network(
    tmp_path: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the import of PyTorch, which the tests do without."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "models.export", raising=False)
    run = tmp_path / "hamf"
    run.mkdir()
    (run / "checkpoint.pt").write_bytes(b"")
    (run / "recipe.json").write_text('{"name": "hamf_fiducial"}')
    code, _, err = cre("export", run, "-o", tmp_path / "hamf.onnx")
    assert code == 1
    assert "the export needs torch; install it with: pip install 'dampe-cre[train]'" in err
    code, _, err = cre("export", run, "-o", tmp_path / "hamf.onnx", "--zoo", tmp_path)
    assert "--output or --zoo, not both" in err
    (tmp_path / "hamf.onnx").write_bytes(b"x")
    code, _, err = cre("export", run, "-o", tmp_path / "hamf.onnx")
    assert (code, "hamf.onnx exists; give --overwrite" in err) == (1, True)
    (tmp_path / "metrics.json").write_text("[1]")
    code, _, err = cre("export", run, "--metrics", tmp_path / "metrics.json")
    assert (code, "must hold a JSON object" in err) == (1, True)
