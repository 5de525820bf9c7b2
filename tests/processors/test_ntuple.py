"""Canonical fields from both conventions, with their traps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import sample_record, toy_events, write_tree

from processors.exceptions import AliasError, MissingBranchError, NtupleError
from processors.ntuple import FIELDS, Aliases, Ntuple, load_aliases, shipped_aliases
from processors.ntuplefile import Branches, open_events, open_file

MakeNtuple = Callable[..., Path]


def read(path: Path, aliases: str = "dmlntup") -> Ntuple:
    convention = load_aliases(aliases)
    return Ntuple(open_events(str(path), convention.tree), convention)


def test_every_shipped_alias_file_is_valid() -> None:
    assert shipped_aliases() == ["dmlntup", "perugia"]
    assert set(load_aliases("dmlntup").fields) == set(FIELDS)


def test_units_bytes_bits_and_the_image(make_ntuple: MakeNtuple) -> None:
    truth = toy_events(300, 1)
    events = read(make_ntuple("electron", n=300, seed=1))
    assert len(events) == 300
    np.testing.assert_allclose(events["e_true"], truth["e_true"], rtol=1e-6)  # stored in MeV
    np.testing.assert_allclose(events["e_raw"], truth["e_raw"], rtol=1e-6)  # stored in GeV
    np.testing.assert_array_equal(events["n_bars"], truth["n_bars"])  # one-byte chars
    np.testing.assert_array_equal(events["outside_saa"], truth["saa"])  # bit 0
    np.testing.assert_array_equal(events["edge_clear"], truth["edge"])  # bit 3
    np.testing.assert_allclose(events["layer_rms"], truth["rms"], rtol=1e-6)
    np.testing.assert_allclose(events["image"], truth["image"], rtol=1e-6)  # jagged hits
    assert events["image"].shape == (300, 14, 22)


def test_image_of_some_rows_equals_rows_of_the_image(make_ntuple: MakeNtuple) -> None:
    path = make_ntuple("electron", n=40)
    rows = np.arange(40) % 3 == 0
    some = read(path).image(rows)
    np.testing.assert_array_equal(some, read(path)["image"][rows])
    whole = read(path)
    assert whole["image"].shape[0] == 40
    np.testing.assert_array_equal(whole.image(rows), some)
    assert read(path).image(np.zeros(40, bool)).shape == (0, 14, 22)


def test_chars_above_127_stay_positive(make_ntuple: MakeNtuple) -> None:
    def signed(branches: dict[str, Any]) -> None:
        branches["tt_nBarLayer13"] = np.full(300, 200, np.uint8).view(np.int8)

    events = read(make_ntuple("electron", change=signed))
    assert (events["n_bars"][:, 13] == 200).all()


def test_missing_branch_is_named_and_derived_where_possible(make_ntuple: MakeNtuple) -> None:
    events = read(make_ntuple("electron", drop=("tt_stkTrackAngle", "tt_Xtrl", "tt_nBarLayer5")))
    with pytest.raises(MissingBranchError, match=r"'track_angle'.*tt_stkTrackAngle"):
        events["track_angle"]
    assert not events.has("track_angle")
    truth = toy_events(300, 1)
    np.testing.assert_allclose(events["zeta"], truth["zeta"], rtol=1e-4)
    np.testing.assert_array_equal(events["n_bars"], truth["n_bars"])


def test_bad_bar_identifier_is_refused(make_ntuple: MakeNtuple) -> None:
    def wrong(branches: dict[str, Any]) -> None:
        ids = branches["tt_BgoHit_GlobalBarID"]
        branches["tt_BgoHit_GlobalBarID"] = ids * 0 + ((15 << 11) | (3 << 6))

    with pytest.raises(NtupleError, match="is no bar of the BGO"):
        read(make_ntuple("electron", change=wrong))["image"]


def test_unequal_hit_branches_are_refused(make_ntuple: MakeNtuple) -> None:
    def wrong(branches: dict[str, Any]) -> None:
        branches["tt_BgoHit_Energy"] = branches["tt_BgoHit_Energy"][:, :-1]

    with pytest.raises(NtupleError, match="different numbers of hits"):
        read(make_ntuple("electron", change=wrong))["image"]


def test_jagged_branch_for_a_number_is_refused(make_ntuple: MakeNtuple) -> None:
    def wrong(branches: dict[str, Any]) -> None:
        branches["tt_Xtrl"] = branches["tt_BgoHit_Energy"]

    with pytest.raises(NtupleError, match=r"tt_Xtrl.*jagged"):
        read(make_ntuple("electron", change=wrong))["zeta"]


def write_perugia(path: Path, n: int = 200, *, drop: tuple[str, ...] = ()) -> dict[str, Any]:
    """A file of the other convention: MeV, image [14][22], -999 where nothing fired."""
    truth = toy_events(n, 5)
    image = np.where(truth["image"] > 0, truth["image"] * 1e3, -999.0)
    rms = np.where(truth["rms"] > 0, truth["rms"], -999.0)
    psd = truth["psd"].copy()
    psd[::10, 0] = -999.0
    branches: dict[str, Any] = {
        "energy": truth["e_raw"] * 1e3,
        "energy_corr": truth["e_corr"] * 1e3,
        "fracLayer": truth["fraction"],
        "rmsLayer": rms,
        "layerBarEnergy": image,
        "xtrl": truth["zeta"],
        "BGOrec_slopeX": truth["slope"][:, 0],
        "BGOrec_slopeY": truth["slope"][:, 1],
        "BGOrec_interceptX": truth["intercept"][:, 0],
        "BGOrec_interceptY": truth["intercept"][:, 1],
        "STK_chargeX": truth["psd"][:, 0],
        "STK_chargeY": truth["psd"][:, 1],
        "PSD_chargeX": psd[:, 0],
        "PSD_chargeY": psd[:, 1],
        "HET_trigger": truth["trigger"],
        "simu_energy": truth["e_true"] * 1e3,
        "simu_energy_w": np.ones(n),
    }
    for branch in drop:
        del branches[branch]
    write_tree(path, "DmpEvtNtup", branches, sample_record("electron"), 77)
    return truth


def test_fixed_arrays_are_read_straight_from_the_file_too(tmp_path: Path) -> None:
    write_perugia(tmp_path / "other.root")
    events = read(tmp_path / "other.root", "perugia")
    with open_file(str(tmp_path / "other.root")) as file:
        straight = Ntuple(Branches(file["DmpEvtNtup"], 0, 200, {}), load_aliases("perugia"))
        rows = np.arange(200) % 7 == 0
        np.testing.assert_array_equal(straight.image(rows), events.image(rows))
        for name in ("layer_rms", "layer_fraction", "psd_charge_x", "e_true", "he_trigger"):
            np.testing.assert_array_equal(straight[name], events[name])


def test_the_second_convention_reads_the_same_events(tmp_path: Path) -> None:
    truth = write_perugia(tmp_path / "other.root")
    events = read(tmp_path / "other.root", "perugia")
    np.testing.assert_allclose(events["e_corr"], truth["e_corr"])  # MeV
    np.testing.assert_allclose(events["e_true"], truth["e_true"])
    np.testing.assert_allclose(events["image"], truth["image"], rtol=1e-6)  # -999 became 0
    np.testing.assert_allclose(events["layer_rms"], truth["rms"])
    np.testing.assert_array_equal(events["n_bars"], truth["n_bars"])  # derived from the image
    np.testing.assert_array_equal(events["he_trigger"], truth["trigger"])
    assert np.isnan(events["psd_charge_x"][::10]).all()
    assert np.isfinite(events["psd_charge_y"]).all()
    rows = np.arange(200) < 3
    np.testing.assert_allclose(events.image(rows), truth["image"][:3], rtol=1e-6)


def test_derived_fractions_and_rms(tmp_path: Path) -> None:
    truth = write_perugia(tmp_path / "o.root", drop=("fracLayer", "rmsLayer", "xtrl"))
    events = read(tmp_path / "o.root", "perugia")
    np.testing.assert_allclose(events["layer_fraction"], truth["fraction"], rtol=1e-5)
    np.testing.assert_allclose(events["layer_rms"], truth["rms"], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(events["zeta"], truth["zeta"], rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("name: x\ntree: t\nfields: {speed: {branch: v}}", "unknown field", id="field"),
        pytest.param(
            "name: x\ntree: t\nfields: {e_raw: {branch: v, unit: keV}}", "unknown unit", id="unit"
        ),
        pytest.param(
            "name: x\ntree: t\nfields: {e_raw: {branch: v, unit: mm}}",
            "needs a unit of GeV",
            id="mm",
        ),
        pytest.param(
            "name: x\ntree: t\nfields: {e_raw: {branch: v, colour: red}}", "colour", id="key"
        ),
        pytest.param("name: x\ntree: t\nfields: {image: {bar_id: v}}", "bar_id", id="half"),
        pytest.param("name: [", "malformed", id="yaml"),
    ],
)
def test_malformed_alias_files(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(AliasError, match=complaint):
        load_aliases(path)


def test_missing_alias_file_names_the_shipped_ones() -> None:
    with pytest.raises(AliasError, match=r"dmlntup, perugia"):
        load_aliases("nowhere.yaml")


class _Dict(dict[str, ak.Array]):
    """The least that counts as events: branches by name."""

    @property
    def fields(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def test_wrong_shape_is_refused() -> None:
    events = _Dict(
        rmsLayer=ak.Array(np.zeros((3, 13))), layerBarEnergy=ak.Array(np.zeros((3, 14, 21)))
    )
    ntuple = Ntuple(events, load_aliases("perugia"))
    with pytest.raises(NtupleError, match=r"rmsLayer.*\(3, 13\)"):
        ntuple["layer_rms"]
    with pytest.raises(NtupleError, match=r"layerBarEnergy.*\(14, 22\)"):
        ntuple["image"]
    with pytest.raises(MissingBranchError, match="bar energies"):
        Ntuple(_Dict(energy=ak.Array(np.zeros(3))), load_aliases("perugia")).image(np.ones(3, bool))


def test_field_without_alias() -> None:
    bare = Aliases.model_validate({"name": "x", "tree": "t", "fields": {}})
    assert not bare.available("zeta", {"tt_Xtrl"})
