"""Selected events and prepared arrays, against the fields of the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.samples import SampleError, load_prepared, prepare, selected_events
from processors.chain import make_cut
from processors.features import VARIABLES
from processors.ntuple import Ntuple, load_aliases
from processors.ntuplefile import open_events

CUTS = (make_cut("trigger"), make_cut("axis"), make_cut("region"), make_cut("edge"))
Make = Callable[..., Path]


def planes(branches: dict[str, object]) -> None:
    """STK planes for the toy events; every third event has no track."""
    n = len(branches["tt_ekin"])  # type: ignore[arg-type]
    track = np.arange(n) % 3 > 0
    for i in range(12):
        branches[f"tt_stkPlaneEcore{i}"] = np.where(track, 40.0 + i, 0).astype(np.float32)
        branches[f"tt_stkPlaneNClu{i}"] = np.where(track, 1 + i % 3, 0).astype(np.int32)


@pytest.fixture
def files(make_ntuple: Make) -> list[Path]:
    return [
        make_ntuple(k, n=400, seed=s, change=planes) for k, s in (("electron", 1), ("proton", 2))
    ]


def test_chunks_hold_what_passes_the_cuts(files: list[Path]) -> None:
    chunks = list(selected_events(files, "fiducial", CUTS, chunk_size=150))
    assert [(c.kind, len(c.ntuple)) for c in chunks] == [
        (kind, n) for kind in ("electron", "proton") for n in (150, 150, 100)
    ]
    whole = Ntuple(open_events(str(files[1]), "DmlNtup"), load_aliases("dmlntup"))
    passed = np.asarray(whole["he_trigger"] & whole["edge_clear"] & whole["bgo_fiducial"])
    protons = [c for c in chunks if c.kind == "proton"]
    rows = np.concatenate([c.rows + 150 * i for i, c in enumerate(protons)])
    assert np.array_equal(rows, np.flatnonzero(passed))
    for name in ("e_true", "e_corr", "weight"):
        values = np.concatenate([getattr(c, name) for c in protons])
        assert np.array_equal(values, np.asarray(whole[name], np.float64)[passed])
        assert values.dtype == np.float64
    assert set(np.unique(protons[0].weight)) == {1.0, 5.0}


def test_regions_are_disjoint(files: list[Path]) -> None:
    seen = [
        {(c.path, int(r)) for c in selected_events(files, region, CUTS) for r in c.rows}
        for region in ("fiducial", "topfiducial")
    ]
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]


def test_kinds_can_be_chosen(files: list[Path]) -> None:
    chunks = list(selected_events(files, "fiducial", CUTS, kinds=("proton",)))
    assert {c.kind for c in chunks} == {"proton"}


def test_data_are_no_training_sample(make_ntuple: Make) -> None:
    data = make_ntuple("data", change=planes)
    with pytest.raises(SampleError, match="holds data"):
        list(selected_events([data], "fiducial", CUTS))
    (chunk,) = selected_events([data], "fiducial", CUTS, kinds=("data",))
    assert np.isnan(chunk.e_true).all()
    assert (chunk.weight == 1).all()


def test_a_file_that_does_not_say_its_kind_is_refused(make_ntuple: Make) -> None:
    with pytest.raises(SampleError, match="does not say its kind"):
        list(selected_events([make_ntuple(record=None)], "fiducial", CUTS))


def test_prepared_arrays_are_the_features(files: list[Path], tmp_path: Path) -> None:
    sample = prepare(files, "fiducial", CUTS, tmp_path / "cache")
    chunks = list(selected_events(files, "fiducial", CUTS))
    assert len(sample) == sum(len(c.rows) for c in chunks)
    assert sample.synthetic
    assert set(sample.variables) == set(VARIABLES)
    a = sample.arrays
    assert np.array_equal(a["label"], [float(c.kind == "electron") for c in chunks for _ in c.rows])
    (column,) = sample.columns(["log_e_corr"])
    assert np.allclose(a["variables"][:, column], np.log10(a["e_corr"]), rtol=1e-6)
    image = np.concatenate([c.ntuple["image"][c.rows] for c in chunks])  # GeV
    assert np.allclose(a["image"], np.log1p(1e3 * image) / 10, rtol=6e-4, atol=1e-6)
    track = np.concatenate([c.rows % 3 > 0 for c in chunks])
    assert np.array_equal(a["stk_mask"][:, 0], track)
    assert np.allclose(a["stk"][track, 2, 0], np.log1p(44.0) / 10, rtol=1e-3)
    assert np.allclose(a["stk"][track, 2, 2], 0.2, rtol=1e-3)
    assert not a["stk"][~track].any()


def test_the_same_sample_is_prepared_once(files: list[Path], tmp_path: Path) -> None:
    read: list[float] = []
    first = prepare(files, "fiducial", CUTS, tmp_path, advance=read.append)
    assert sum(read) == 800
    again = prepare(files, "fiducial", CUTS, tmp_path, advance=read.append)
    assert sum(read) == 800
    assert (again.identity, again.folder) == (first.identity, first.folder)
    other = prepare(files, "fiducial", CUTS[:-1], tmp_path)
    assert other.identity != first.identity
    assert prepare(files, "topfiducial", CUTS, tmp_path).identity != first.identity


def test_a_damaged_cache_is_named(files: list[Path], tmp_path: Path) -> None:
    folder = prepare(files, "fiducial", CUTS, tmp_path).folder
    with (folder / "image.raw").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(SampleError, match=r"image\.raw"):
        load_prepared(folder)


def test_one_class_only_is_refused_and_leaves_nothing(files: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(SampleError, match="no proton of the 1 files"):
        prepare(files[:1], "fiducial", CUTS, cache)
    assert list(cache.iterdir()) == []
    electrons = prepare(files[:1], "fiducial", CUTS, cache, required=("electron",))
    assert (electrons.arrays["label"] == 1).all()


def test_variables_without_branches_are_left_out(make_ntuple: Make, tmp_path: Path) -> None:
    files = [
        make_ntuple(k, n=200, seed=s, change=planes, drop=("tt_Rmsr",))
        for k, s in (("electron", 1), ("proton", 2))
    ]
    sample = prepare(files, "fiducial", CUTS, tmp_path / "cache")
    assert set(VARIABLES) - set(sample.variables) == {"rms_r"}
    with pytest.raises(SampleError, match="'rms_r' is not in the prepared sample"):
        sample.columns(["theta", "rms_r"])


def test_nan_is_named(make_ntuple: Make, tmp_path: Path) -> None:
    def spoil(branches: dict[str, object]) -> None:
        planes(branches)
        branches["tt_Rmsr"][:] = np.nan  # type: ignore[index]

    files = [
        make_ntuple(k, n=200, seed=s, change=spoil) for k, s in (("electron", 1), ("proton", 2))
    ]
    with pytest.raises(SampleError, match="'rms_r' is not finite"):
        prepare(files, "fiducial", CUTS, tmp_path / "cache")
