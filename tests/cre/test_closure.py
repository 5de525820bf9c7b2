"""``cre closure`` with another region, spectrum and correction of migration."""

import json
import sys

import numpy as np
import pytest

from cre.main import main

BREAK = (
    "{type: smoothly_broken_power_law, norm: 1.62e-4, e0_gev: 100.0, index1: 3.09, index2: 4.5, "
    "break_gev: 914.0, smoothness: 0.02}\n"
)
SMALL = ("--electron-events", 5000, "--proton-events", 20_000, "--shift", 1.2, 0.6)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["cre", "closure", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out = capsys.readouterr()
    return caught.value.code, out.out, out.err


def test_topfiducial_with_a_break(tmp_path, monkeypatch, capsys):
    (tmp_path / "break.yaml").write_text(BREAK, "utf-8")
    arguments = [
        "-o",
        tmp_path / "c",
        "--model",
        "synthetic_omega_topfiducial",
        "--toys",
        3,
        *SMALL,
    ]
    code, out, err = run(monkeypatch, capsys, *arguments, "--spectrum", tmp_path / "break.yaml")
    assert code == 0, err
    assert "flux, with migration" in out
    assert "largest bias of the flux without fluctuations" in out
    content = json.loads((tmp_path / "c/closure.json").read_text())
    assert (content["region"], content["migration"]) == ("topfiducial", "folding")
    assert set(content["bias"]) == {"none", "bin_by_bin", "folding"}
    for name in ("pulls", "bias_flux", "bias_background", "bias_migration"):
        assert (tmp_path / f"c/{name}.png").stat().st_size > 10_000
    # the spectrum of the file: mean flux of a bin far above the break, and far below
    low, high = (np.array(content[k]) for k in ("e_min", "e_max"))
    flux = np.array(content["truth"]["flux"])
    for i, index in ((15, 3.09), (33, 4.5)):
        change = np.log(flux[i + 1] / flux[i]) / np.log(
            np.sqrt(low * high)[i + 1] / np.sqrt(low * high)[i]
        )
        assert change == pytest.approx(-index, abs=0.01)
    ratio = np.array(content["ratios"]["flux_folding"]["mean"], float)[14:25]
    assert ratio == pytest.approx(1.0, abs=0.1)
    record = json.loads((tmp_path / "c/provenance.json").read_text())
    assert any("break.yaml" in str(entry) for entry in record["inputs"])


def test_fiducial_has_no_correction_unless_asked(tmp_path, monkeypatch, capsys):
    arguments = ["-o", tmp_path / "c", "--toys", 2, *SMALL]
    code, out, err = run(monkeypatch, capsys, *arguments, "--migration", "bin_by_bin")
    assert code == 0, err
    content = json.loads((tmp_path / "c/closure.json").read_text())
    assert content["migration"] == "bin_by_bin"
    assert np.nanmax(np.abs(np.array(content["bias"]["bin_by_bin"], float)[:30] - 1)) < 0.01
    assert "bin by bin" in out


def test_bad_input(tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "-o", tmp_path / "c", "--spectrum", "mars")
    assert (code, out) == (1, "")
    assert "--spectrum mars: no such file" in err
