"""``cre fit`` and ``cre flux`` on toys, and the card sections that steer them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from analysis.fluxtable import read_flux_table
from analysis.templatefit.resultfile import FitFileError, fit_text, read_fit
from cre.analysiscard import RUN_SECTIONS, AnalysisCard, CardError, analysis_card
from cre.card import Card
from cre.measuring import flux_settings

Cre = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Histograms of a toy with a proton shift."""
    from cre.commands.toy import command  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("toy")
    line = ["-o", str(folder), "--shift", "0.8", "0.4", "--livetime-s", "3e7"]
    line += ["--electron-events", "20000", "--proton-events", "20000", "--proton-bulk-weight", "10"]
    result = CliRunner().invoke(command, line)
    assert result.exit_code == 0, result.output
    return folder / "histograms.json.gz"


def card(folder: Path, **sections: object) -> Path:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(sections), "utf-8")
    return path


def test_fit_writes_result_and_figures(cre: Cre, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    code, text, err = cre("fit", toy, "-o", out)
    assert code == 0, err
    assert "SYNTHETIC" in text
    assert "s0 (proton shift, log10(E/1000 GeV)^0): 0." in text
    for name in ("postfit", "shift", "background"):
        assert (out / f"{name}.png").stat().st_size > 10_000
        assert (out / f"{name}.pdf").exists()
    assert not (out / "postfit").exists()
    result = read_fit(out / "fit.json")
    assert fit_text(result) == (out / "fit.json").read_text("utf-8")
    value, error = result.coefficients["s0"]
    assert abs(value - 0.8) < 5 * error
    assert result.success.all()
    content = json.loads((out / "fit.json").read_text("utf-8"))
    assert content["schema"] == "cre-fit/1"
    assert len(content["derived"]["electrons"][0]) == 41
    code, _, err = cre("fit", toy, "-o", out)
    assert code == 1
    assert "fit.json exists" in err
    again = cre("fit", toy, "-o", tmp_path / "again")
    assert again[0] == 0
    assert (tmp_path / "again/fit.json").read_text() == (out / "fit.json").read_text()


def test_ways_orders_and_pages(cre: Cre, toy: Path, tmp_path: Path) -> None:
    low = ("--e-min-gev", 1000, "--e-max-gev", 1600)
    code, text, err = cre("fit", toy, "-o", tmp_path / "a", "--way", "per_bin", *low, "--pages")
    assert code == 0, err
    assert "38 bins without a fit: outside the energies of the fit" in text
    assert len(list((tmp_path / "a/postfit").glob("*.png"))) == 3
    code, text, _ = cre("fit", toy, "-o", tmp_path / "b", "--shift-order", "none", *low)
    assert code == 0
    assert "s0 (proton shift" not in text
    code, text, _ = cre("fit", toy, "-o", tmp_path / "c", "--shift-order", "auto", *low)
    assert code == 0
    assert len(read_fit(tmp_path / "c/fit.json").settings["deviance_by_order"]) >= 2


def test_flux_says_how_it_was_made(cre: Cre, toy: Path, tmp_path: Path) -> None:
    code, text, err = cre("flux", toy, "-o", tmp_path / "fit")
    assert code == 0, err
    assert "background from the simultaneous template fit (proton shift s0 0." in text
    assert "migration: bin_by_bin" in text
    code, text, _ = cre("flux", toy, "-o", tmp_path / "side", "--method", "sideband")
    assert code == 0
    assert "background from the control region" in text
    tables = [read_flux_table(tmp_path / f"{name}.ecsv") for name in ("fit", "side")]
    few = tables[0].n_data > 100
    assert np.all(tables[1].dnde[few] > tables[0].dnde[few])  # the shift adds background


def test_systematics_of_a_card(cre: Cre, toy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert cre("toy", "-o", other, "--seed", 9, "--proton-events", 5000)[0] == 0
    made = card(
        tmp_path,
        systematics={
            "acceptance": 0.02, "template_shape": 0, "energy_scale": 0.0175, "cut_efficiency": 0,
            "files": {"hadronic_model": "other/histograms.json.gz"},
        },
    )  # fmt: skip
    few = ("--e-min-gev", 400, "--e-max-gev", 1000.1)
    code, text, err = cre(
        "flux", toy, "-o", tmp_path / "flux", "--systematics", "--card", made, *few
    )
    assert code == 0, err
    assert "systematic error: hadronic_model" in err
    table = read_flux_table(tmp_path / "flux.ecsv")
    wanted = {"acceptance_scale", "energy_scale", "hadronic_model", "shift_model"}
    assert wanted <= set(table.systematics)
    assert "hadronic model" in text
    assert "systematic error edge left out: the data are the same with edge off" in text
    assert len(table.meta["systematics"]["fits"]["hadronic_model"]) == 2
    record = json.loads((tmp_path / "flux.provenance.json").read_text())
    assert any("other/histograms" in i["path"] for i in record["inputs"])
    code, _, err = cre("plot", toy, "--flux", tmp_path / "flux.ecsv", "-o", tmp_path / "figures")
    assert code == 0, err
    assert (tmp_path / "figures/systematics.png").exists()
    assert (tmp_path / "figures/response.png").exists()


def test_cut_rule_and_steps(cre: Cre, toy: Path, tmp_path: Path) -> None:
    score = {"name": "omega", "control": [-40, -8]}
    made = card(tmp_path, score=score | {"cut": {"efficiency": 0.9}})
    assert cre("flux", toy, "-o", tmp_path / "rule", "--card", made)[0] == 0
    rule = read_flux_table(tmp_path / "rule.ecsv")
    assert np.median(rule.efficiency) == pytest.approx(0.9, abs=0.02)
    made = card(tmp_path, score=score | {"cut": [[24, 4.0], [1000, 6.0]]})
    few = ("--e-min-gev", 800, "--e-max-gev", 1400)
    assert cre("flux", toy, "-o", tmp_path / "steps", "--card", made, *few)[0] == 0
    cuts = read_flux_table(tmp_path / "steps.ecsv").meta["flux"]["cut"]
    assert sorted(set(cuts)) == [4.0, 6.0]
    code, _, err = cre("plot", toy, "--flux", tmp_path / "steps.ecsv", "-o", tmp_path / "figures")
    assert code == 0, err
    assert cre("flux", toy, "-o", tmp_path / "own", "--card", made, "--cut", 3.0)[0] == 0
    assert read_flux_table(tmp_path / "own.ecsv").meta["flux"]["cut"] == 3.0


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"fit": {"shift_ordre": 1}}, "shift_ordre"),
        ({"fitt": {}}, "unknown entries fitt"),
        ({"systematics": {"acceptance": 20}}, "acceptance"),
        ({"fit": {"shift_order": 7}}, "orders of the shift and width are 0 to 3"),
        ({"flux": {"method": "guess"}}, "method"),
        ({"systematics": {"acceptance": -1}}, "acceptance"),
        ({"score": {"cut": {"efficiency": 1.5}, "control": [-40, -8]}}, "efficiency"),
        ({"score": {"cut": {}, "control": [-40, -8]}}, "a cut rule is"),
        ({"score": {"cut": -9.0, "control": [-40, -8]}}, "must ascend and end at or below"),
    ],
)
def test_wrong_sections_are_sentences(
    cre: Cre, toy: Path, tmp_path: Path, sections: dict[str, object], sentence: str
) -> None:
    code, _, err = cre("flux", toy, "-o", tmp_path / "f", "--card", card(tmp_path, **sections))
    assert code == 1
    assert sentence in err


def test_entries_of_the_run_are_known() -> None:
    fields = {f.alias or name for name, f in Card.model_fields.items()}
    own = {f.alias or name for name, f in AnalysisCard.model_fields.items()}
    assert own < fields
    assert fields - own == RUN_SECTIONS


def test_a_shift_off_the_axis_is_told(cre: Cre, tmp_path: Path) -> None:
    made = ("--livetime-s", 3e6, "--electron-events", 3000, "--proton-events", 3000)
    assert cre("toy", "-o", tmp_path / "t", "--shift", 100, 0, *made)[0] == 0
    few = ("--e-min-gev", 400, "--e-max-gev", 800)
    code, text, err = cre("flux", tmp_path / "t/histograms.json.gz", "-o", tmp_path / "f", *few)
    assert code in {0, 1, 3}, err
    assert "Traceback" not in err
    assert "WARNING" in text or "error" in err


def test_small_mistakes_are_sentences(cre: Cre, toy: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("--e-min-gev", 500, "--e-max-gev", 100), "500 GeV is not below the highest"),
        (("--electrons-in-control",), "by the method 'sideband' only"),
    ):
        code, _, err = cre("flux", toy, "-o", tmp_path / "f", *arguments)
        assert code == 1
        assert sentence in err
    code, _, err = cre("break", "nosuch", "-o", tmp_path / "b")
    assert code == 1
    assert "neither a flux table nor a published set" in err


def test_broken_files(cre: Cre, toy: Path, tmp_path: Path) -> None:
    made = card(tmp_path, systematics={"files": {"hadronic_model": "none.json.gz"}})
    code, _, err = cre("flux", toy, "-o", tmp_path / "f", "--systematics", "--card", made)
    assert code == 1
    assert "none.json.gz" in err
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(FitFileError, match="schema is None"):
        read_fit(tmp_path / "fit.json")
    with pytest.raises(CardError, match="cannot be read"):
        analysis_card(tmp_path / "absent.yaml", {})
    assert flux_settings(analysis_card(None, {})).method == "fit"


def test_closure_prints_pulls(cre: Cre, tmp_path: Path) -> None:
    small = ("--electron-events", 5000, "--proton-events", 20_000)
    code, text, err = cre("closure", "-o", tmp_path / "c", "--toys", 3, *small)
    assert code == 0, err
    assert "3 TOYS" in text
    assert "1.0" in text.rsplit("background over the true one", 1)[1] or "0.9" in text
    content = json.loads((tmp_path / "c/closure.json").read_text())
    assert content["schema"] == "cre-closure/1"
    assert len(content["pulls"]["flux"]["mean"]) == 41
    assert len(content["pulls"]["coefficients"]["width"]) == 2
    for name in ("pulls", "bias_flux", "bias_background"):
        assert (tmp_path / f"c/{name}.png").stat().st_size > 10_000
    code, _, err = cre("closure", "-o", tmp_path / "c", "--toys", 3)
    assert code == 1
    assert "closure.json exists" in err
