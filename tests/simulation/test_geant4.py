"""Geant4 events as ntuples: the energies are those of Geant4, the rest is the simulation's."""

import json

import numpy as np
import pytest
import uproot

from simulation import geant4
from simulation.geant4 import write_reference
from simulation.validation import load_reference


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The first 40 full and 30 hybrid events of each kind, simulated twice."""

    def few(kind):
        events = load_reference(kind)
        rows = np.concatenate([np.arange(40), np.flatnonzero(~events.full)[:30]])
        return events.take(rows)

    patch = pytest.MonkeyPatch()
    patch.setattr(geant4, "load_reference", few)
    folder = tmp_path_factory.mktemp("geant4")
    made = write_reference(folder, repeat=2, seed=3)
    yield made
    with pytest.raises(FileExistsError, match="allow overwriting"):
        write_reference(folder)
    patch.undo()


def test_two_files_of_the_same_primaries(pairs):
    assert [(p.kind, p.part) for p in pairs] == [
        ("electron", "full"),
        ("electron", "hybrid"),
        ("proton", "full"),
        ("proton", "hybrid"),
    ]
    for pair in pairs:
        assert "synthetic_geant4" in pair.geant4.name
        n = 40 if pair.part == "full" else 30
        true = np.sort(load_reference(pair.kind).energy_gev[:40]) if pair.part == "full" else None
        with uproot.open(pair.geant4) as there, uproot.open(pair.simulation) as here:
            energies = [f["DmlNtup"]["tt_ekin"].array(library="np") / 1e3 for f in (there, here)]
            record = json.loads(str(there["cre_metadata"]))
            twin = json.loads(str(here["cre_metadata"]))
        if pair.kind == "electron":
            assert [len(e) for e in energies] == [n, 2 * n]
            if true is not None:
                assert np.sort(energies[0]) == pytest.approx(true, rel=1e-6)
            assert np.tile(energies[0], 2) == pytest.approx(energies[1])
        assert record["source"] == "geant4"
        assert twin["source"] == "geant4 primaries"
        for r in (record, twin):
            assert r["synthetic"] is True
            assert r["kind"] == pair.kind
            assert "generated" not in r  # serves no flux
            assert r["geant4"]["part"] == pair.part


def test_the_bars_hold_the_energy_of_geant4(pairs):
    events = load_reference("electron")
    with uproot.open(pairs[0].geant4) as file:
        raw = file["DmlNtup"]["tt_bgoTotalE_GeV"].array(library="np")
    # 1 % gains average out over the bars; the 2 MeV threshold takes little
    deposited = events.image_gev[:40].sum(axis=(1, 2))
    assert raw / deposited == pytest.approx(np.ones(40), abs=0.02)
    assert np.mean(raw / deposited) == pytest.approx(1.0, abs=0.004)


def test_axis_is_found_where_the_reference_says(pairs):
    events = load_reference("electron")
    with uproot.open(pairs[0].geant4) as file:
        slope = file["DmlNtup"]["tt_bgoRecSlopeX"].array(library="np")
    expected = events.direction[:40, 0] / events.direction[:40, 2]
    # the reconstructed axis is a few percent too steep, as that of any event
    assert np.corrcoef(slope, expected)[0, 1] > 0.995
    assert np.polyfit(expected, slope, 1)[0] == pytest.approx(0.96, abs=0.04)


def test_topfiducial_events_leave_through_a_side(tmp_path, monkeypatch):
    monkeypatch.setattr(geant4, "load_reference", lambda kind: load_reference(kind).take(ROWS))
    made = write_reference(tmp_path, region="topfiducial", repeat=2, seed=3)
    assert len({path for pair in made for path in pair.paths}) == 12
    for pair in made:
        assert pair.direct is not None
        records, columns = [], []
        for path in pair.paths:
            with uproot.open(path) as file:
                records.append(json.loads(str(file["cre_metadata"])))
                names = ["tt_ekin", "tt_bgoTotalE_GeV"]
                columns.append(file["DmlNtup"].arrays(names, library="np"))
        sources = ["geant4", "geant4 primaries moved", "geant4 primaries"]
        assert [r["source"] for r in records] == sources
        assert [r["geant4"]["bgo_deposits"] for r in records] == [True, False, False]
        if pair.kind == "proton":
            continue
        there, moved, direct = columns
        # electrons all leave a signal: the same primaries once and twice
        assert np.tile(there["tt_ekin"], 2) == pytest.approx(moved["tt_ekin"])
        assert direct["tt_ekin"] == pytest.approx(moved["tt_ekin"])
        kept = [c["tt_bgoTotalE_GeV"] * 1e3 / c["tt_ekin"] for c in columns]
        assert all(0.002 < k.min() < 0.75 for k in kept)
        means = [k.mean() for k in kept]
        assert means == pytest.approx([means[0]] * 3, abs=0.05)


ROWS = np.r_[0:60, 800:860]
