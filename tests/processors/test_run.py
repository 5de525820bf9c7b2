"""The processor and the driver against a plain loop over the same events."""

import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner, accumulate
from hypothesis import given
from hypothesis import strategies as st
from ntuples import toy_events

from processors import run as r
from processors.chain import make_cut
from processors.exceptions import ManifestError, MissingBranchError, SelectionError
from processors.manifest import FileEntry, build
from processors.processor import CreProcessor, RunConfig, required_fields
from processors.spectrum import ELECTRON_2017, PROTON_2026
from processors.weights import Generated, rate_weights

MakeNtuple = Callable[..., Path]
CUTS = (
    make_cut("saa", {"kinds": ["data"]}),
    make_cut("trigger"),
    make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}),
    make_cut("axis"),
    make_cut("max_layer_ratio"),
    make_cut("edge"),
    make_cut("region"),
    make_cut("psd_charge"),
)


def config(files: list[FileEntry], **change: Any) -> RunConfig:
    options: dict[str, Any] = {
        "cuts": CUTS,
        "regions": ("fiducial", "topfiducial"),
        "score": "zeta",
        "generated": {
            "new": {
                k: [f.generated.model_dump() for f in files if f.kind == k and f.generated]
                for k in ("electron", "proton")
            }
        },
        "target": {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
    }
    return RunConfig(**(options | change))


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    paths = [
        make_ntuple("data", n=400, seed=1),
        make_ntuple("electron", n=300, seed=2),
        make_ntuple("proton", n=250, seed=3),
        make_ntuple("data", n=0, seed=4, run=2),
    ]
    return build([str(p) for p in paths]).files


def slow_selection(events: dict[str, Any], kind: str) -> np.ndarray:
    """The chain written out in plain numpy for the fiducial region."""
    line = [events["intercept"] + events["slope"] * z for z in (46.0, 448.0)]
    keep = events["trigger"] & (events["e_corr"] >= 100.0) & (events["e_corr"] < 3000.0)
    keep &= (events["fraction"].max(axis=1) <= 0.35) & events["edge"]
    keep &= np.all([np.abs(p) < 280 for p in line], axis=(0, 2))
    keep &= (events["psd"].sum(axis=1) < 10) & (events["psd"].min(axis=1) < 2.6)
    return keep & events["saa"] if kind == "data" else keep


def test_histograms_equal_a_plain_loop(files: list[FileEntry]) -> None:
    result = r.execute(r.plan(files, 100_000), config(files))
    assert not result.missing
    assert len(result.planned) == len(result.processed) == 4
    hists = result.output["hists"]
    assert result.output["events"] == {"data": 400, "electron": 300, "proton": 250}
    assert not any(result.output["nonfinite"].values())
    assert {"e_corr", "zeta", "weight"} <= set(result.output["nonfinite"])

    events = toy_events(400, 1, kind="data")
    keep = slow_selection(events, "data")
    score = hists["score"]["data", "fiducial", "new", "pass", :, :]
    assert 0 < keep.sum() < 400
    assert score.sum(flow=True).value == keep.sum()
    expected, _, _ = np.histogram2d(
        events["e_corr"][keep].astype(np.float32),
        -np.log10(events["zeta"][keep].astype(np.float32)),
        bins=(score.axes[0].edges, score.axes[1].edges),
    )
    np.testing.assert_array_equal(score.values(), expected)
    np.testing.assert_array_equal(score.variances(), expected)

    events = toy_events(250, 3, kind="proton")
    keep = slow_selection(events, "proton")
    sample = [Generated(events=1_000_000, e_min_gev=50.0, e_max_gev=5000.0)]
    w = rate_weights(events["e_true"], events["weight"], sample, PROTON_2026)[keep]
    protons = hists["score"]["proton", "fiducial", "new", "pass", :, :].sum(flow=True)
    assert protons.value == pytest.approx(w.sum(), rel=1e-5)
    assert protons.variance == pytest.approx((w**2).sum(), rel=1e-5)
    passed = hists["passed"]["proton", "fiducial", "new", "pass", :].sum(flow=True)
    assert passed.value == pytest.approx(w.sum(), rel=1e-5)
    response = hists["response"]["proton", "fiducial", "new", "pass", :, :].sum(flow=True)
    assert response.value == pytest.approx(w.sum(), rel=1e-5)

    flow = hists["cutflow"]
    last = flow["data", "fiducial", "new", "psd_charge", "cumulative", :].sum(flow=True).value
    assert last == slow_selection(toy_events(400, 1, kind="data"), "data").sum()
    assert flow["data", "fiducial", "new", "saa", "evaluated", :].sum(flow=True).value == 400
    for name in (
        "sum_rms",
        "f_last",
        "theta",
        "rms_l",
        "rms_r",
        "max_layer_ratio",
        "stk_n_clusters",
    ):
        filled = hists[f"control_{name}"]["data", "fiducial", "new", :, :].sum(flow=True).value
        assert filled == last, name
    layers = hists["control_layer_rms"]["data", "fiducial", "new", :, :, :].sum(flow=True).value
    assert layers == 14 * last


@pytest.mark.parametrize("chunk_size", [1, 37, 200, 1000])
def test_chunks_of_any_size_give_the_same(files: list[FileEntry], chunk_size: int) -> None:
    if chunk_size == 1:
        files = [f for f in files if f.kind == "proton"]
    whole = r.execute(r.plan(files, 10**6), config(files)).output
    items = r.plan(files, chunk_size)
    if chunk_size == 1:
        items = items[:12] + items[-1:]
        assert max(len(i) for i in items) <= 125
        return
    parts = r.execute(items, config(files)).output
    for name, h in whole["hists"].items():
        np.testing.assert_allclose(h.values(), parts["hists"][name].values(), rtol=1e-12)
    assert whole["events"] == parts["events"]


@given(
    st.integers(0, 500),
    st.lists(st.integers(1, 499), max_size=6, unique=True),
    st.integers(1, 600),
)
def test_chunks_cover_a_file_once(entries: int, inner: list[int], size: int) -> None:
    clusters = [0, *sorted(c for c in inner if c < entries), entries]
    pieces = list(r._cuts(entries, clusters, size))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == entries
    assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    assert all(0 < b - a <= 2 * size for a, b in pieces) or entries == 0


def test_workers_give_the_same_counts(files: list[FileEntry]) -> None:
    items = r.plan(files, 150)
    told: list[int] = []
    one = r.execute(items, config(files), progress=told.append)
    two = r.execute(items, config(files), workers=2)
    assert sum(told) == 950
    assert one.processed == two.processed
    a, b = one.output["hists"]["score"], two.output["hists"]["score"]
    np.testing.assert_array_equal(a["data", ...].values(), b["data", ...].values())
    np.testing.assert_allclose(a.values(), b.values(), rtol=1e-12)
    assert one.output["chunks"] == two.output["chunks"]


def test_the_processor_runs_under_coffea_too(files: list[FileEntry]) -> None:
    items = r.plan(files[:3], 10**6)  # coffea has no work for a file without events
    ours = r.execute(items, config(files)).output
    runner = Runner(executor=IterativeExecutor(status=False), schema=BaseSchema, metadata_cache={})
    theirs = runner.run(items, CreProcessor(config(files)))["out"]
    assert {k: v for k, v in ours.items() if k != "hists"} == {
        k: v for k, v in theirs.items() if k != "hists"
    }
    for name, h in ours["hists"].items():
        np.testing.assert_allclose(h.values(), theirs["hists"][name].values(), rtol=1e-12)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lost_file_is_named_and_the_rest_kept(files: list[FileEntry], workers: int) -> None:
    items = r.plan(files, 10**6)
    Path(files[1].path).unlink()
    result = r.execute(items, config(files), workers=workers)
    assert list(result.missing) == [f"{files[1].path} [0:300]"]
    assert "FileNotFoundError" in result.missing[f"{files[1].path} [0:300]"]
    assert result.output["events"] == {"data": 400, "proton": 250}
    assert len(result.processed) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_user_stops_the_run(files: list[FileEntry], workers: int) -> None:
    cuts = (*CUTS, make_cut("edge_from_image"))
    path = Path(files[0].path)
    changed = files[0].model_copy(update={"aliases": "perugia", "path": str(path)})
    with pytest.raises(MissingBranchError, match="energy_corr"):
        r.execute(r.plan([changed], 10**6), config(files, cuts=cuts), workers=workers)


def test_missing_fields_are_found_before_the_run(make_ntuple: MakeNtuple) -> None:
    entries = build([str(make_ntuple("electron", drop=("tt_psdChargeX",)))]).files
    with pytest.raises(MissingBranchError, match=r"'psd_charge_x', which cut 'psd_charge' needs"):
        r.check_files(entries, config(entries))
    needs = required_fields(config(entries), "electron", weighted=True)
    assert needs["e_true"] == "the weights of simulated events"
    assert "outside_saa" not in needs
    assert "outside_saa" in required_fields(config(entries), "data", weighted=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_changed_since_the_manifest_is_not_read(
    files: list[FileEntry], make_ntuple: MakeNtuple, workers: int
) -> None:
    make_ntuple("data", n=300, seed=1)  # the same name and uuid, fewer events
    result = r.execute(r.plan(files, 10**6), config(files), workers=workers)
    ((name, why),) = result.missing.items()
    assert name == f"{files[0].path} [0:400]"
    assert "not the file that the manifest describes" in why
    assert result.output["events"] == {"data": 0, "electron": 300, "proton": 250}


def test_an_alias_file_that_changed_stops_the_run(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = (Path(r.__file__).parent / "aliases/dmlntup.yaml").read_text()
    mine.write_text(text)
    entries = build([str(make_ntuple("data"))], aliases=str(mine)).files
    r.check_files(entries, config(entries))
    mine.write_text(text.replace("tt_bgoTotalEcorr_GeV", "tt_bgoTotalE_GeV"))
    with pytest.raises(ManifestError, match="changed since the manifest"):
        r.check_files(entries, config(entries))


def test_weight_branches_that_are_no_importance_sampling_are_not_used(
    make_ntuple: MakeNtuple,
) -> None:
    def spectrum(branches: dict[str, Any]) -> None:
        branches["tt_evtPoid"] = (branches["tt_ekin"] * 1e-3) ** -2.0

    paths = [
        make_ntuple("electron", seed=2, name="a.root", record=False, change=spectrum),
        make_ntuple("electron", seed=2, name="b.root", record=False, drop=("tt_evtPoid",)),
    ]
    generated = Generated(events=1_000_000, e_min_gev=50.0, e_max_gev=5000.0)
    sums = []
    for path in paths:
        entries = build(
            [str(path)],
            kind="electron",
            bgo_reconstruction="new",
            generated=generated,
            weights="none",
        ).files
        output = r.execute(r.plan(entries, 10**6), config(entries)).output
        sums.append(
            output["hists"]["passed"]["electron", "fiducial", "new", "pass", :].sum(flow=True).value
        )
    assert sums[0] == sums[1] > 0


def test_nonfinite_values_are_counted_and_not_filled(make_ntuple: MakeNtuple) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["tt_bgoTotalEcorr_GeV"][:5] = np.nan
        branches["tt_Xtrl"][:] = np.where(np.arange(300) % 10 == 0, np.nan, branches["tt_Xtrl"])
        branches["tt_ekin"][7] = 1.0  # 1 MeV lies outside the generated energies

    entries = build([str(make_ntuple("electron", change=spoil))]).files
    output = r.execute(r.plan(entries, 10**6), config(entries)).output
    assert output["nonfinite"]["e_corr"] == 5
    assert output["nonfinite"]["weight"] == 1
    assert output["nonfinite"]["zeta"] > 0
    for h in output["hists"].values():
        assert np.isfinite(h.values(flow=True)).all()


def test_merging_keeps_the_categories(files: list[FileEntry]) -> None:
    parts = [r.run_chunk(item, config(files)) for item in r.plan(files, 10**6)]
    merged = accumulate(parts)
    reverse = accumulate(parts[::-1])
    assert list(merged["hists"]["score"].axes[0]) == ["data", "electron", "proton"]
    assert merged["hists"]["score"].axes == reverse["hists"]["score"].axes
    assert {c[0] for c in merged["chunks"]} == {str(uuid.UUID(f.uuid)) for f in files}


def test_processor_refuses_a_wrong_chain(files: list[FileEntry]) -> None:
    with pytest.raises(SelectionError, match="needs the entry 'region'"):
        CreProcessor(config(files, cuts=CUTS[:2]))
    processor = CreProcessor(config(files))
    assert processor.postprocess({"x": 1}) == {"x": 1}
