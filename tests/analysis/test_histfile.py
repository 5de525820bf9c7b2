"""The three twins of a histogram file say the same, and nothing else than histograms gets in."""

import gzip
import json
import math
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import hist
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import histfile, histformats
from analysis.histfile import HistFile, HistFileError, UnsafePickleError, load, save
from analysis.selection import project

SUFFIXES = ["pkl", "json.gz", "root"]
GOLDEN = Path(__file__).parent / "golden" / "histograms-1.pkl"
WEIGHT = hist.storage.Weight()
REGULAR = hist.axis.Regular(3, 1, 10, name="x")

META = {
    "program": {"name": "dampe-cre", "version": "0.1.0"},
    "livetime_s": 1.0e6,
    "score": {"name": "zeta", "cut": 8.5, "control": [20.0, 100.0]},
    "bgo_reconstruction": "new",
    "ledger": {"planned": 3, "processed": 3, "missing": []},
    "synthetic": True,
    "generated": None,
    "text": "größe",
}


def axes(*, kinds=("data", "electron", "proton"), flow=True):
    return (
        hist.axis.StrCategory(list(kinds), name="kind", label="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.Variable([24.0, 27.5, 31.6, 10471.3], name="energy", label="Energy (GeV)"),
        hist.axis.Regular(6, -8, 4, name="omega", label="$-\\log_{10}\\zeta$", flow=flow),
    )


def sample(seed=7):
    rng = np.random.default_rng(seed)
    score = hist.Hist(*axes(), storage=WEIGHT)
    for kind in ("data", "electron", "proton", "something else"):
        # beyond all edges on purpose: every flow bin gets something
        score.fill(
            kind=kind,
            region="fiducial",
            energy=10 ** rng.uniform(1, 5, 500),
            omega=rng.uniform(-12, 8, 500),
            weight=rng.exponential(0.01, 500),
        )
    kind, region, energy, _ = axes()
    cut = hist.axis.StrCategory(["saa", "trigger", "edge / bars"], name="cut")
    cutflow = hist.Hist(kind, region, cut, energy, storage=WEIGHT)
    cutflow.fill(kind="data", region="fiducial", cut="edge / bars", energy=[25.0, 30.0, 30.0])
    return {"score": score, "cutflow": cutflow}


@pytest.fixture
def files(tmp_path):
    hists = sample()
    return hists, save(tmp_path / "out" / "h.v1", hists, META)


def replace_bytes(path, **content):
    path.write_bytes(
        pickle.dumps({"schema": "cre-histograms/2", "hists": {}, "meta": {}} | content)
    )
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(files, suffix):
    hists, paths = files
    assert [p.name for p in paths] == ["h.v1.pkl", "h.v1.json.gz", "h.v1.root"]
    back = load(paths[SUFFIXES.index(suffix)])
    assert isinstance(back, HistFile)
    assert back.meta == META
    assert list(back.hists) == ["score", "cutflow"]
    for name, h in hists.items():
        got = back.hists[name]
        assert np.array_equal(got.values(flow=True), h.values(flow=True))
        assert np.array_equal(got.variances(flow=True), h.variances(flow=True))
        assert [ax.name for ax in got.axes] == [ax.name for ax in h.axes]
        assert [ax.label for ax in got.axes] == [ax.label for ax in h.axes]
        assert [type(ax) for ax in got.axes] == [type(ax) for ax in h.axes]
        assert [ax.traits for ax in got.axes] == [ax.traits for ax in h.axes]
        assert all(np.array_equal(a.edges, b.edges) for a, b in zip(got.axes, h.axes, strict=True))
        assert list(got.axes[0]) == ["data", "electron", "proton"]
        assert got == h
    assert list(back.hists["cutflow"].axes["cut"]) == ["saa", "trigger", "edge / bars"]


def test_flow_bins_are_kept(files):
    _, paths = files
    for path in paths:
        score = load(path).hists["score"]
        flow = score.values(flow=True)
        assert flow[0, 0, 0].sum() > 0  # energy underflow
        assert flow[0, 0, -1].sum() > 0  # energy overflow
        assert flow[0, 0, :, 0].sum() > 0
        assert flow[0, 0, :, -1].sum() > 0
        assert flow[3].sum() == pytest.approx(5.0, rel=0.2)  # 500 events of an unknown category


def test_root_file_for_root_users(files):
    hists, paths = files
    score = hists["score"]
    with uproot.open(paths[2]) as file:
        assert file.classname_of("score/data/fiducial") == "TH2D"
        assert file.classname_of("cutflow/data/fiducial/edge %2F bars") == "TH1D"
        th2 = file["score/proton/fiducial"]
        assert th2.member("fXaxis").member("fTitle") == "Energy (GeV)"
        assert np.array_equal(th2.axis("x").edges(), [24.0, 27.5, 31.6, 10471.3])
        part = score["proton", "fiducial", :, :]
        assert np.array_equal(th2.values(), part.values())
        assert np.array_equal(th2.variances(), part.variances())
        assert json.loads(str(file["cre_metadata"]))["meta"]["livetime_s"] == 1e6


def test_axes_without_flow_bins_and_many_numeric_axes(tmp_path):
    h = hist.Hist(
        hist.axis.StrCategory(["a", "b"], name="kind", overflow=False),
        hist.axis.Integer(0, 3, name="layer", label="layer"),
        hist.axis.Regular(2, 0, 1, name="x", underflow=False),
        hist.axis.Variable([0, 1, 5], name="y", overflow=False),
        storage=WEIGHT,
        name="n",
        label="l",
    )
    rng = np.random.default_rng(1)
    h.view(flow=True)["value"] = rng.exponential(size=h.axes.extent)
    h.view(flow=True)["variance"] = rng.exponential(size=h.axes.extent)
    for path in save(tmp_path / "h", {"h": h}, {}):
        got = load(path).hists["h"]
        assert got == h
        assert (got.name, got.label) == ("n", "l")
        assert isinstance(got.axes[1], hist.axis.Integer)
    with uproot.open(tmp_path / "h.root") as file:
        assert "h/a/layer_0" in file
        assert "h/a/[underflow]" in file


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    low=st.floats(-50, 50, allow_nan=False),
    width=st.floats(0.01, 100),
    bins=st.integers(1, 30),
    weights=st.lists(st.floats(-1e300, 1e300), max_size=5),
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        min_size=1,
        max_size=3,
        unique=True,
    ),
)
def test_round_trip_of_any_content(tmp_path, low, width, bins, weights, names):
    h = hist.Hist(
        hist.axis.StrCategory(names, name="cut"),
        hist.axis.Regular(bins, low, low + width, name="x"),
        storage=WEIGHT,
    )
    view = h.view(flow=True)
    view["value"].flat[: len(weights)] = weights[: view.size]
    view["variance"].flat[: len(weights)] = np.abs(weights[: view.size])
    for path in save(tmp_path / "h", {"h": h}, {}, overwrite=True):
        got = load(path).hists["h"]
        assert np.array_equal(got.view(flow=True), h.view(flow=True))
        assert got.axes == h.axes


def test_loaded_histograms_add_up(files):
    _, paths = files
    first, second = load(paths[0]), load(paths[2])
    histfile.check_same_binning(first, second)
    total = first.hists["score"] + second.hists["score"]
    assert total.sum(flow=True).value == pytest.approx(
        2 * first.hists["score"].sum(flow=True).value
    )


def test_same_bytes_in_two_processes(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_histfile as t;"
        "from analysis.histfile import save; save(sys.argv[1], t.sample(), t.META)"
    )
    content = []
    for name in ("one", "two"):
        where = tmp_path / name / "h"
        run = [sys.executable, "-c", code, str(where), str(Path(__file__).parent)]
        env = {**os.environ, "PYTHONHASHSEED": "random"}
        subprocess.run(run, check=True, cwd=Path(__file__).parents[2], env=env)  # noqa: S603
        content.append([where.with_name(f"h.{s}").read_bytes() for s in ("pkl", "json.gz")])
    assert content[0] == content[1]


def test_saved_again_after_loading_gives_the_same_bytes(files, tmp_path):
    _, paths = files
    for path in paths:
        back = load(path)
        again = save(tmp_path / "again", back.hists, back.meta, overwrite=True)
        assert again[0].read_bytes() == paths[0].read_bytes()
        assert again[1].read_bytes() == paths[1].read_bytes()


def test_golden_pickle():
    """Made once with hist 2.12.1, boost-histogram 1.8.1, numpy 2.4; must stay readable."""
    content = load(GOLDEN)
    score = content.hists["score"]
    assert [a.name for a in score.axes] == ["kind", "region", "bgo", "edge", "energy", "omega"]
    assert list(score.axes[0]) == ["data", "electron", "proton"]
    assert list(score.axes["bgo"]) == ["new"]
    assert list(score.axes["edge"]) == ["pass"]
    here = "new", "pass"
    assert score["data", "fiducial", *here, sum, :].values().tolist() == [0.0, 3.0, 0.0, 1.0]
    assert score["proton", "fiducial", *here, 0, 2].value == 0.75
    assert score["proton", "fiducial", *here, 0, 2].variance == pytest.approx(0.3125)
    assert content.meta["by_bgo"] == {"new": {}}
    assert score.axes["energy"].edges.tolist() == [24.0, 27.5, 31.6]
    assert content.meta["score"] == {"name": "zeta", "cut": 8.5, "control": [20.0, 100.0]}
    assert math.isinf(content.meta["odd"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_the_first_version_is_upgraded(tmp_path, monkeypatch, suffix):
    """The same contents, flow bins too, behind one reconstruction and the passed edge cut."""
    hists = sample()
    hists["other"] = hists["cutflow"].project("cut", "energy")
    monkeypatch.setattr(histformats, "SCHEMA", "cre-histograms/1")
    paths = save(tmp_path / "h", hists, META | {"bgo_reconstruction": "old"})
    monkeypatch.undo()
    back = load(paths[SUFFIXES.index(suffix)])
    names = {name: [a.name for a in h.axes] for name, h in back.hists.items()}
    assert names == {
        "score": ["kind", "region", "bgo", "edge", "energy", "omega"],
        "cutflow": ["kind", "region", "bgo", "cut", "energy"],
        "other": ["cut", "energy"],
    }
    score = back.hists["score"]
    assert list(score.axes["bgo"]) == ["old"]
    for part in ("values", "variances"):
        new, old = (getattr(h, part)(flow=True) for h in (score, hists["score"]))
        assert np.array_equal(new[:, :, 0, 0], old)
        assert new.sum() == pytest.approx(old.sum())  # nothing in the flow bins of the new axes
    assert back.meta["by_bgo"] == {"old": {"livetime_s": 1.0e6, "generated": None}}
    plain, meta = project(back.hists, back.meta)
    assert plain["score"] == hists["score"]
    assert meta["livetime_s"] == 1.0e6
    again = save(tmp_path / "again", back.hists, back.meta)
    assert load(again[0]).hists["score"] == score


def test_plain_pickle_opens_without_this_package(files):
    _, paths = files
    content = pickle.loads(paths[0].read_bytes())
    assert content["schema"] == "cre-histograms/2"
    assert content["hists"]["score"] == sample()["score"]


def test_infinite_numbers_in_the_metadata(tmp_path):
    meta = {"a": math.inf, "b": [-math.inf, {"c": math.nan}]}
    paths = save(tmp_path / "h", sample(), meta)
    for path in paths:
        got = load(path).meta
        assert got["a"] == math.inf
        assert got["b"][0] == -math.inf
        assert math.isnan(got["b"][1]["c"])
    text = gzip.decompress(paths[1].read_bytes())
    json.loads(text, parse_constant=pytest.fail)  # strict JSON: no bare NaN


class Call:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch /tmp/owned",), "system"),
        (eval, ("1 + 1",), "builtins.eval"),
        (getattr, (hist, "Hist"), "builtins.getattr"),
        (np.load, ("x.npy",), "numpy.load"),
        (np.memmap, ("x",), "numpy.memmap"),
        (np.frombuffer, (b"12345678",), "numpy.frombuffer"),
        (hist.Hist.fill, ({},), "builtins.getattr|Hist.fill"),
        (Path, ("x",), "pathlib"),
        (print, ("x",), "builtins.print"),
        (subprocess.check_output, ("id",), "check_output"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_malicious_pickle_is_refused(tmp_path, function, arguments, name, protocol):
    path = tmp_path / "bad.pkl"
    content = {"schema": "cre-histograms/2", "hists": {}, "meta": {"x": Call(function, *arguments)}}
    if arguments and arguments[0] is hist:
        content["meta"]["x"] = Call(getattr, "text", "upper")
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(UnsafePickleError, match=r"bad\.pkl: the pickle asks for") as error:
        load(path)
    named = str(error.value).replace("__builtin__", "builtins").replace("posix", "os")
    assert any(part in named for part in name.split("|"))


def global_pickle(module, name, arguments, then=b""):
    """Pickle of protocol 4 that calls module.name(*arguments), by opcodes."""
    body = pickle.dumps(arguments, protocol=4)[2:-1]
    text = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
    return b"\x80\x04" + text + b"\x93" + body + b"R" + then + b"."


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("hist.hist", "Hist.__init__.__globals__", ()),
        ("numpy", "dtype", ("O",)),
        ("numpy", "dtype", ("V8", False, True)),
        ("numpy", "dtype.__class__", ("x",)),
        ("numpy", "f2py", ()),
        ("numpy._core.multiarray", "_reconstruct", (str, (0,), b"b")),
        ("numpy._core.multiarray", "scalar", ()),
        ("numpy._core.multiarray", "_reconstruct", ("x", (10**9, 10**9), b"d")),
        ("boost_histogram._core.hist", "any_int64", ()),
        ("boost_histogram._core.axis", "regular_numpy", ()),
        ("builtins", "object", ()),
        ("copyreg", "_reconstructor", ()),
        ("_codecs", "encode", ("a", "b")),
        ("functools", "partial", (len,)),
    ],
)
def test_nothing_beside_the_list_is_given(tmp_path, module, name, arguments):
    path = tmp_path / "bad.pkl"
    path.write_bytes(global_pickle(module, name, arguments))
    with pytest.raises(UnsafePickleError, match=r"asks for|array"):
        load(path)


def test_allowed_names_cannot_be_called_to_effect(tmp_path):
    """The ndarray marker is no function, and no dtype that exists already is changed."""
    path = tmp_path / "bad.pkl"
    path.write_bytes(global_pickle("numpy", "ndarray", ((10**9,),)))
    with pytest.raises(HistFileError, match="not a histogram file"):
        load(path)
    swapped = pickle.dumps((3, ">", None, None, None, -1, -1, 0), protocol=4)[2:-1] + b"b"
    path.write_bytes(global_pickle("numpy", "dtype", ("f8", False, False), swapped))
    with pytest.raises(HistFileError, match="'schema', 'hists' and 'meta'"):
        load(path)
    assert np.dtype("f8").isnative


def test_persistent_object_is_refused(tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x04\x8c\x01xQ.")
    with pytest.raises(UnsafePickleError, match="external object 'x'"):
        load(path)


def test_pickle_with_a_short_buffer_is_refused(tmp_path):
    """The C++ reader takes any buffer; reading it would run past its end."""
    h = hist.Hist(hist.axis.Regular(1000, 0, 1, name="x"), storage=WEIGHT)
    inner = type(h._hist).__new__(type(h._hist))
    inner.__setstate__((*h._hist.__reduce_ex__(4)[2][:-1], np.zeros(4)))
    h._hist = inner
    path = tmp_path / "bad.pkl"
    replace_bytes(path, hists={"h": h})
    with pytest.raises(HistFileError, match="holds 2 bins, its axes have 1002"):
        load(path)


def test_numpy_1_pickles_open_without_a_warning(files):
    _, paths = files
    old = paths[0].read_bytes()
    new, before = b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"
    head = old.index(b"\x95")
    assert new in old
    # frames carry lengths: leave them out
    body = b"".join(part for part in [old[:head], old[head + 9 :]])
    if b"\x95" not in body:
        paths[0].write_bytes(body.replace(new, before))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(paths[0])
    assert (
        histfile.histformats._ALLOWED["numpy.core.multiarray", "_reconstruct"]
        is (histfile.histformats._ALLOWED["numpy._core.multiarray", "_reconstruct"])
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.98])
def test_truncated_file(files, suffix, part):
    _, paths = files
    path = paths[SUFFIXES.index(suffix)]
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(HistFileError, match=path.name):
        load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(np.random.default_rng(3).bytes(4000))
    with pytest.raises(HistFileError, match=r"x.* damaged"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"schema": "cre-histograms/9"},
            "schema 'cre-histograms/9', this program reads 'cre-histograms/1' and 'cre-histograms/2'",
        ),
        ({"extra": 1}, "holds 'schema', 'hists' and 'meta'"),
        ({"hists": []}, "are dictionaries"),
        ({"meta": {"x": (1, 2)}}, "meta.x is a builtins.tuple"),
        ({"meta": {"x": [{1}]}}, "meta.x.0. is a builtins.set"),
        ({"hists": {"h": 3}}, "'h' is a int, not a hist.Hist"),
    ],
)
def test_pickle_of_another_shape(tmp_path, content, message):
    with pytest.raises(HistFileError, match=message):
        load(replace_bytes(tmp_path / "x.pkl", **content))


def test_other_schema_in_json_and_root(files):
    _, paths = files
    paths[1].write_bytes(b'{"schema": "other/1", "hists": {}, "meta": {}}')
    with pytest.raises(HistFileError, match="schema 'other/1'"):
        load(paths[1])
    paths[1].write_bytes(b"[1, 2]")
    with pytest.raises(HistFileError, match="holds 'schema'"):
        load(paths[1])
    with uproot.recreate(paths[2]) as file:
        file["x"] = "text"
    with pytest.raises(HistFileError, match="no 'cre_metadata' in the file"):
        load(paths[2])
    with uproot.recreate(paths[2]) as file:
        file["cre_metadata"] = '{"schema": "other/1", "hists": {}, "meta": {}}'
    with pytest.raises(HistFileError, match="schema 'other/1'"):
        load(paths[2])


def test_json_with_another_storage(files):
    _, paths = files
    content = json.loads(gzip.decompress(paths[1].read_bytes()))
    content["hists"]["score"]["storage"]["type"] = "double"
    paths[1].write_bytes(json.dumps(content).encode())
    with pytest.raises(HistFileError, match="storage 'double': only 'weighted'"):
        load(paths[1])


def rewrite_root(path, change):
    with uproot.open(path) as file:
        names = [k for k, c in file.classnames(cycle=False).items() if c in {"TH1D", "TH2D"}]
        content = {k: file[k].to_hist() for k in names}
        record = str(file["cre_metadata"])
    change(content)
    with uproot.recreate(path) as file:
        for name, h in content.items():
            file[name] = h
        file["cre_metadata"] = record


def test_root_file_with_a_lost_or_changed_histogram(files):
    _, paths = files
    rewrite_root(paths[2], lambda content: content.pop("score/data/fiducial"))
    with pytest.raises(HistFileError, match="'score/data/fiducial' is missing"):
        load(paths[2])
    other = hist.Hist(
        hist.axis.Variable([24, 28, 31.6, 10471.3]), hist.axis.Regular(6, -8, 4), storage=WEIGHT
    )
    rewrite_root(paths[2], lambda content: content.update({"score/data/fiducial": other}))
    with pytest.raises(HistFileError, match="bin edges of 'score/data/fiducial'"):
        load(paths[2])


def test_unknown_suffix_and_missing_file(tmp_path):
    with pytest.raises(
        HistFileError, match=r"h\.h5: unknown suffix, a histogram file ends in \.pkl"
    ):
        load(tmp_path / "h.h5")
    with pytest.raises(HistFileError, match="no such file"):
        load(tmp_path / "h.pkl")


def test_type_annotated_histogram(tmp_path):
    h = hist.Hist[object](REGULAR, storage=WEIGHT)
    assert "__orig_class__" in h.__dict__
    for path in save(tmp_path / "h", {"h": h}, {}):
        assert load(path).hists["h"].axes == h.axes


def nan_hist():
    h = sample()["score"]
    h.view()["variance"][0, 0, 0, 0] = np.nan
    return h


def twins():
    h = simple(REGULAR, hist.axis.Regular(3, 1, 10, name="y"))
    h.axes[1].__dict__["name"] = "x"
    return h


def simple(*ax, storage=WEIGHT):
    return hist.Hist(*ax, storage=storage)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("h", lambda: simple(REGULAR, storage=hist.storage.Int64()), "Int64 storage: use Weight"),
        ("h", lambda: simple(REGULAR, storage=hist.storage.Double()), "Double storage"),
        ("h", nan_hist, "NaN or infinite variances"),
        ("a/b", lambda: simple(REGULAR), "'a/b': use letters"),
        ("cre_metadata", lambda: simple(REGULAR), "'cre_metadata': use letters"),
        ("h", lambda: np.zeros(3), "is a ndarray, not a hist.Hist"),
        (
            "h",
            lambda: simple(hist.axis.Regular(3, 1, 9)),
            "has no name: names are how readers address axes",
        ),
        (
            "h",
            lambda: simple(hist.axis.StrCategory([], name="k", growth=True), REGULAR),
            "axis 'k' of histogram 'h' is a StrCategory with growth",
        ),
        (
            "h",
            lambda: simple(hist.axis.Regular(3, 1, 9, name="x", transform=hist.axis.transform.log)),
            "Regular with transform",
        ),
        ("h", lambda: simple(hist.axis.IntCategory([1, 2], name="k"), REGULAR), "a IntCategory"),
        ("h", lambda: simple(hist.axis.Regular(3, 0, 1, name="x", circular=True)), "circular"),
        ("h", twins, "two axes of one name: x, x"),
        ("h", lambda: simple(hist.axis.StrCategory(["a"], name="k")), "has no numeric axis"),
        (
            "h",
            lambda: simple(hist.axis.Variable([0, 1, np.inf], name="x")),
            "has an infinite edge",
        ),
        (
            "h",
            lambda: simple(hist.axis.Regular(2, 0, 1, name="x", label=Path("x"))),
            "h.axes.0..metadata.label is a pathlib",
        ),
    ],
)
def test_histogram_that_cannot_be_kept(tmp_path, name, make, message):
    with pytest.raises(HistFileError, match=message):
        save(tmp_path / "h", {name: make()}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"a": np.float64(1)}, "meta.a is a numpy.float64"),
        ({"a": {"b": [1, (2,)]}}, r"meta.a.b\[1\] is a builtins.tuple"),
        ({1: 2}, "meta has the key 1"),
        ({"a": {"$float": "x"}}, "meta.a has the key"),
        ({"a": Path("x")}, "meta.a is a pathlib"),
    ],
)
def test_metadata_that_cannot_be_kept(tmp_path, meta, message):
    with pytest.raises(HistFileError, match=message):
        save(tmp_path / "h", sample(), meta)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["h.pkl", "h.json.gz", "h.root"])
def test_stem_with_a_suffix_is_refused(tmp_path, name):
    with pytest.raises(HistFileError, match="without suffix"):
        save(tmp_path / name, sample(), META)


def test_nothing_is_overwritten_unless_allowed(files):
    _, paths = files
    stem = paths[0].with_name("h.v1")
    before = [p.read_bytes() for p in paths]
    paths[0].unlink()
    with pytest.raises(FileExistsError, match=r"json\.gz exists"):
        save(stem, sample(8), META)
    assert [p.read_bytes() for p in paths[1:]] == before[1:]
    assert not paths[0].exists()
    save(stem, sample(8), META, overwrite=True)
    assert load(paths[0]).hists["score"] == sample(8)["score"]


def test_failed_writer_leaves_everything_as_it_was(files, monkeypatch):
    _, paths = files
    before = {p: p.read_bytes() for p in paths[0].parent.iterdir()}

    def full_disk(path, *_):
        path.write_bytes(b"half")
        msg = "no space left"
        raise OSError(msg)

    monkeypatch.setattr(histfile.histformats, "write_root", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(paths[0].with_name("h.v1"), sample(8), META, overwrite=True)
    with pytest.raises(OSError, match="no space"):
        save(paths[0].with_name("new"), sample(8), META)
    assert {p: p.read_bytes() for p in paths[0].parent.iterdir()} == before


@pytest.mark.parametrize("name", ["h.v1", "new"])
def test_failed_rename_puts_the_old_files_back(files, monkeypatch, name):
    _, paths = files
    before = {p: p.read_bytes() for p in paths[0].parent.iterdir()}
    rename = Path.replace

    def third_fails(self, target):
        if str(self).endswith(".part") and str(target).endswith(".root"):
            msg = "rename refused"
            raise OSError(msg)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", third_fails)
    with pytest.raises(OSError, match="rename refused"):
        save(paths[0].with_name(name), sample(8), META, overwrite=True)
    assert {p: p.read_bytes() for p in paths[0].parent.iterdir()} == before


def test_check_same_binning():
    hists = sample()
    first = HistFile(hists, META)
    with pytest.raises(HistFileError, match="histograms cutflow are in one file only"):
        histfile.check_same_binning(first, HistFile({"score": hists["score"]}, META))
    other = hists | {"score": hist.Hist(*axes(flow=False), storage=WEIGHT)}
    with pytest.raises(HistFileError, match="'score' has different axes"):
        histfile.check_same_binning(first, HistFile(other, META))
    with pytest.raises(HistFileError, match="differ in bgo_reconstruction: 'new' and 'old'"):
        histfile.check_same_binning(first, HistFile(hists, META | {"bgo_reconstruction": "old"}))
    with pytest.raises(HistFileError, match="differ in score"):
        histfile.check_same_binning(first, HistFile(hists, META | {"score": {"name": "dnn"}}))
