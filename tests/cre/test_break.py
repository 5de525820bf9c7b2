"""``cre break`` as a user calls it: products, table, refusals, exit codes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import analysis.published
from analysis.flux import flux
from analysis.fluxtable import write_flux_table
from analysis.published import load
from cre import breakreport
from cre.card import BreakSection, CardError, read_card

ROOT = Path(__file__).parents[2]
NAME = "dampe_2017_electron_positron"
Cre = Callable[..., tuple[int, str, str]]


def table(path: Path) -> Path:
    """Synthetic table with the 2017 columns, the first five bins failed."""
    t = load(NAME)
    area = t.extra["acceptance_m2sr"].copy()
    area[:5] = np.nan
    one = np.ones(area.size)
    made = flux(
        t.extra["counts"], t.extra["bkg_fraction"], t.extra["bkg_fraction_err"], one, 0 * one, area,
        0 * one, 3.4916e7, t.e_min, t.e_max, meta={"synthetic": True},
    )  # fmt: skip
    scale = made.dnde * t.extra["acceptance_err"] / t.extra["acceptance_m2sr"]
    return write_flux_table(made.with_systematic("acceptance_scale", scale, scale), path)


def strict(path: Path) -> dict[str, Any]:
    """JSON without NaN."""

    def refuse(text: str) -> None:
        raise ValueError(text)

    content: dict[str, Any] = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    return content


def test_all_methods_side_by_side(cre: Cre, tmp_path: Path) -> None:
    stem = tmp_path / "new" / "break"
    code, out, _ = cre("break", NAME, "-o", stem, "--toys", 20, "--seed", 3)
    assert code == 0
    for text in ("7.14 sigma two-sided", "6.57 sigma", "4.95 sigma", "0 of 20 reach the data"):
        assert text in out
    for kind in ("fits", "profiles", "toys"):
        for suffix in ("png", "pdf"):
            assert (tmp_path / "new" / f"break_{kind}.{suffix}").stat().st_size > 5000
    content = strict(stem.with_suffix(".json"))
    assert content["schema"] == "cre-break/1"
    shipped = Path(analysis.published.__file__).with_name(f"{NAME}.csv")
    assert content["input"]["sha256"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert content["options"]["seed"] == 3
    assert [f["method"] for f in content["fits"][::3]] == ["quadrature", "nuisance", "poisson"]
    found = content["fits"][1]
    assert found["model"] == "smoothly_broken_power_law"
    assert found["parameters"]["break_gev"]["value"] == pytest.approx(911.8, abs=0.1)
    assert len(content["toys"]) == 3
    assert len(content["toys"][0]["delta"]) == 20
    assert len(content["bins"]) == 28
    notes = strict(tmp_path / "new" / "break.provenance.json")
    assert notes["exit_code"] == 0
    assert len(notes["outputs"]) == 7

    before = stem.with_suffix(".json").read_bytes()
    code, _, err = cre("break", NAME, "-o", stem)
    assert code == 1
    assert "break.json exists" in err
    again = cre("break", NAME, "-o", stem, "--toys", 20, "--seed", 3, "--overwrite")
    assert again[0] == 0
    assert stem.with_suffix(".json").read_bytes() == before


def test_own_table_and_options(cre: Cre, tmp_path: Path) -> None:
    made = table(tmp_path / "flux.ecsv")
    code, out, _ = cre(
        "break", made, "-o", tmp_path / "b", "--method", "nuisance", "--nuisances", 4,
        "--model", "power_law_cutoff", "--leave-out", 1400, "--e-max-gev", 3000,
    )  # fmt: skip
    assert code == 0
    assert "SYNTHETIC" in out
    assert "5 bins without a flux are left out: 24.0-47.9 GeV" in out
    assert "left out as asked: 1318.3-1513.6 GeV" in out
    content = strict(tmp_path / "b.json")
    assert content["synthetic"] is True
    assert {f["model"] for f in content["fits"]} == {"power_law", "power_law_cutoff"}
    assert all(len(f["nuisances"]) == 4 for f in content["fits"])
    assert not (tmp_path / "b_toys.png").exists()


def test_card_section(cre: Cre, tmp_path: Path) -> None:
    shipped = (ROOT / "cre/cards/fiducial.yaml").read_text()
    card = tmp_path / "card.yaml"
    card.write_text(shipped)
    assert read_card(card).break_ == BreakSection()
    assert (BreakSection().e_min_gev, BreakSection().e_max_gev) == (55.0, 2630.0)
    card.write_text(f"{shipped}\nbreak: {{e_min_gev: 80.0, method: quadrature, smoothness: 0.2}}\n")
    assert read_card(card).as_dict()["break"]["e_min_gev"] == 80.0
    code, out, _ = cre("break", NAME, "-o", tmp_path / "b", "--card", card, "--smoothness", 0.1)
    assert code == 0
    assert "83.2-2630.3 GeV" in out
    options = strict(tmp_path / "b.json")["options"]
    assert (options["smoothness"], options["method"]) == (0.1, "quadrature")
    card.write_text(f"{shipped}\nbreak: {{e_mim_gev: 80.0}}\n")
    with pytest.raises(CardError, match="e_mim_gev"):
        read_card(card)
    with pytest.raises(ValidationError):
        BreakSection(smoothness=-1)


def test_method_that_the_table_cannot_serve(cre: Cre, tmp_path: Path) -> None:
    """CALET prints no counts: two methods are done and the third is named; asked for, it fails."""
    code, out, _ = cre("break", "calet_2023_electron_positron", "-o", tmp_path / "c")
    assert code == 0
    assert "poisson: not done: CALET 2023" in out
    assert "no counts" in strict(tmp_path / "c.json")["skipped"]["poisson"]
    code, _, err = cre(
        "break", "calet_2023_electron_positron", "-o", tmp_path / "d", "--method", "poisson"
    )
    assert code == 1
    assert "no counts" in err
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--e-min-gev", "3000"], "range 3000 to 2630 GeV is empty"),
        (["--e-min-gev", "9000", "--e-max-gev", "9900"], "no usable bin between 9000 and 9900"),
        (["--leave-out", "20"], "20 GeV, to be left out, lies in no bin"),
        (["--e-min-gev", "2000"], "too few"),
        (["--smoothness", "0"], "smoothness"),
        (["--method", "poisson", "--livetime-s", "-5"], "positive number of seconds"),
        (["--model", "curved"], "curved"),
    ],
)
def test_bad_calls(cre: Cre, tmp_path: Path, arguments: list[str], message: str) -> None:
    code, _, err = cre("break", NAME, "-o", tmp_path / "b", *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "b.json").exists()


def test_no_such_table(cre: Cre, tmp_path: Path) -> None:
    for name, message in (("nothing.csv", "nothing.csv"), ("dampe_2017", "neither a flux table")):
        code, _, err = cre("break", name, "-o", tmp_path / "b")
        assert code == 1
        assert message in err


def test_fit_that_did_not_converge(
    cre: Cre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is written and flagged, then exit code 3."""
    original = breakreport.fit

    def broken(*arguments: Any, **options: Any) -> Any:
        found = original(*arguments, **options)
        if found.model.breaks:
            return replace(found, valid=False, message="call limit reached")
        return found

    monkeypatch.setattr(breakreport, "fit", broken)
    code, out, err = cre("break", NAME, "-o", tmp_path / "b", "--method", "quadrature")
    assert code == 3
    assert "NOT VALID: call limit reached" in out
    assert "1 fits did not converge: smoothly_broken_power_law (quadrature)" in err
    content = strict(tmp_path / "b.json")
    assert [f["valid"] for f in content["fits"]] == [True, False, True]
    assert (tmp_path / "b_fits.png").exists()
    assert strict(tmp_path / "b.provenance.json")["exit_code"] == 3
