import csv
import gzip
import io
import math
import re
import sys
import tarfile
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from analysis.exceptions import FluxTableError, IncompleteDataError
from analysis.exports import (
    Dataset,
    FluxExportError,
    marks,
    publishable,
    read_tables,
    write_crdb,
    write_hepdata,
    write_latex,
)
from analysis.exports.crdb import CSV_COLUMNS, USINE_COLUMNS, crdb_text
from analysis.exports.hepdata import validate_archive
from analysis.exports.latex import latex_text
from analysis.exports.rounding import pdg_place, place, rounded
from analysis.flux import flux
from analysis.fluxtable import FluxTable, write_flux_table
from analysis.published import load

SCALE = 1e8  # so that the toy fluxes are of the size of real ones


def make_table(**meta):
    """Bins: good, no counts, negative flux, failed, failed, not finite, good."""
    table = flux(
        [1e5 / 3, 0, 5, 7, 7, 9, 9],
        [0.1, np.nan, 1.7, 0.1, 0.1, 0.1, 0.2],
        [0.01, np.nan, 0.3, 0.01, 0.01, 0.01, 0.05],
        [0.9, 0.9, 0.9, 0.0, 0.0, 0.9, 0.7],
        0.01,
        0.3,
        0.01,
        SCALE,
        [24, 27.5, 31.6, 36.3, 41.7, 47.9, 1513.561248436207],
        [27.5, 31.6, 36.3, 41.7, 47.9, 55.0, 1737.8008287493744],
        meta={"flux": {"region": "fiducial", "edge_cut": "on", "cut": 5.0}, **meta},
    )
    nan = np.nan
    low = table.dnde[[0, 6]] * (0.02, 0.03)
    errors = ([low[0], 0, 0, nan, nan, nan, low[1]], [2 * low[0], 0, 0, nan, nan, 1e-9, low[1]])
    return table.with_systematic("proton_shift", *errors)


@pytest.fixture
def table():
    return make_table(synthetic=True, histograms_sha256="ab" * 32)


def published():
    """The printed table of 2017 as a flux table."""
    spectrum = load("dampe_2017_electron_positron")
    more = spectrum.extra
    ones = np.ones(len(spectrum.dnde))
    return FluxTable(
        e_min=spectrum.e_min,
        e_max=spectrum.e_max,
        e_ref=spectrum.e_mean,
        dnde=spectrum.dnde,
        dnde_errn=spectrum.stat_n,
        dnde_errp=spectrum.stat_p,
        dnde_ul=ones * np.nan,
        n_data=more["counts"],
        counts=more["counts"] * (1 - more["bkg_fraction"]),
        background_fraction=more["bkg_fraction"],
        background_fraction_err=more["bkg_fraction_err"],
        efficiency=ones,
        efficiency_err=0 * ones,
        acceptance=more["acceptance_m2sr"],
        acceptance_err=more["acceptance_err"],
        livetime=ones * 3.4916e7,
        success=ones > 0,
        systematics={"all": (spectrum.sys_n, spectrum.sys_p)},
    )


# --- which bins


def test_bins_are_sorted(table):
    bins = publishable(table)
    assert np.flatnonzero(bins.measured).tolist() == [0, 6]
    assert np.flatnonzero(bins.limit).tolist() == [1, 2]
    assert bins.rows.tolist() == [0, 1, 2, 6]
    assert table.dnde[2] < 0
    assert bins.left_out == (
        "36.3 to 47.9 GeV: no efficiency: no electron simulation above the cut",
        "47.9 to 55.0 GeV: flux, error or upper limit is not finite",
    )


def test_a_table_without_a_flux_is_refused():
    dead = flux([5, 5], 0.1, 0.1, 0.0, 0.1, 0.3, 0.01, 1e6, [10, 20], [20, 30])
    with pytest.raises(IncompleteDataError, match=r"10\.0 to 30\.0 GeV: no efficiency"):
        publishable(dead)
    for text in (
        lambda t: latex_text({"x": t}),
        lambda t: crdb_text({"x": t}, Dataset(), form="csv"),
    ):
        with pytest.raises(IncompleteDataError):
            text(dead)


def test_marks():
    assert marks(make_table()) == ()
    assert marks(make_table(synthetic=False, toy=False, complete=True)) == ()
    assert marks(make_table(toy=True, complete=False)) == ("TOY", "INCOMPLETE")
    assert marks(make_table(synthetic=True)) == ("SYNTHETIC",)


def test_labels(tmp_path):
    top = make_table(flux={"region": "topfiducial"})
    paths = [tmp_path / "a.ecsv", tmp_path / "b.json"]
    write_flux_table(make_table(), paths[0])
    write_flux_table(top, paths[1])
    assert list(read_tables(paths)) == ["fiducial", "topfiducial"]
    other = tmp_path / "edge off_%.csv"
    write_flux_table(make_table(), other)
    assert list(read_tables([*paths, other])) == ["a", "topfiducial", "edge-off"]
    (tmp_path / "sub").mkdir()
    same = tmp_path / "sub" / "A.ecsv"
    write_flux_table(make_table(), same)
    with pytest.raises(FluxExportError, match="both be called 'a'"):
        read_tables([paths[0], same])
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    with pytest.raises(FluxTableError, match=r"bad\.csv is not a usable flux table"):
        read_tables([bad])


# --- rounding


@pytest.mark.parametrize(
    ("value", "error", "printed"),
    [  # the first two are the examples of the PDG's introduction
        (0.827, 0.119, ("0.83", "0.12")),
        (0.827, 0.367, ("0.8", "0.4")),
        (1.2345, 0.0100, ("1.234", "0.010")),
        (1.2345, 0.0354, ("1.234", "0.035")),
        (1.2345, 0.0355, ("1.23", "0.04")),
        (1.2345, 0.0949, ("1.23", "0.09")),
        (1.2345, 0.0950, ("1.23", "0.10")),
        (1.2345, 0.0999, ("1.23", "0.10")),
        (14.674, 0.964, ("14.7", "1.0")),
        (1234.5, 354.0, ("1230", "350")),
        (1234.5, 355.0, ("1200", "400")),
        (0.0, 0.026, ("0.000", "0.026")),
    ],
)
def test_pdg_rule_by_hand(value, error, printed):
    last = place(value, [error])
    assert last == pdg_place(error)
    assert tuple(format(rounded(x, last), "f") for x in (value, error)) == printed


def test_rounding_with_several_errors():
    assert place(1.0, [0.2, 0.03]) == -3  # 0.030, and 0.20 may get one digit more
    assert place(1.0, [0.4, 0.4, 0.02]) == -2  # 0.4 alone: tenths; 0.02 may add one digit
    assert place(1.0, [0.4, 1e-9]) == -2
    assert place(1.0, [0.4, 0.0, math.nan]) == -1
    assert place(123.4, []) == 0
    assert place(0.0, [0.0]) == -2
    with pytest.raises(ValueError, match="finite and positive, got 0"):
        pdg_place(0.0)


size = st.floats(-30, 30).map(lambda x: 10.0**x)


@given(size, st.lists(size, min_size=1, max_size=4), st.booleans())
@example(1.0, [1.0000000000000002e-30, 1e30], True)
@example(2.5, [1.0], False)
def test_what_is_printed_is_near(value, errors, up):
    """Within half a unit of the last digit; the largest error has three digits at most."""
    last = place(value, errors)
    number = rounded(value, last, up=up)
    assert number.as_tuple().exponent == last
    off = (Fraction(number) - Fraction(value)) / Fraction(10) ** last
    assert 0 <= off < 1 if up else abs(off) <= Fraction(1, 2)
    digits = len(rounded(max(errors), last).as_tuple().digits)
    assert 1 <= digits <= 3 or last == Decimal(repr(value)).adjusted() - 15


@given(size)
def test_pdg_errors_have_one_or_two_digits(error):
    digits = rounded(error, pdg_place(error)).as_tuple().digits
    assert (len(digits) == 1 and 3 < digits[0] <= 9) or (
        len(digits) == 2 and 10 <= 10 * digits[0] + digits[1] <= 35
    )


# --- HEPData


def read_submission(folder):
    documents = list(yaml.safe_load_all((folder / "submission.yaml").read_text("utf-8")))
    data = [yaml.safe_load((folder / d["data_file"]).read_text("utf-8")) for d in documents[1:]]
    return documents, data


def column(data, name):
    (found,) = [v for v in data["dependent_variables"] if v["header"]["name"] == name]
    return found


def value_or_nan(entry):
    return math.nan if entry["value"] == "-" else float(entry["value"])


def test_hepdata_keeps_every_bit(table, tmp_path):
    files = write_hepdata({"fiducial": table}, tmp_path / "out")
    assert [f.name for f in files] == [
        "submission.yaml",
        "synthetic_flux_fiducial.yaml",
        "out.tar.gz",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.tar.gz"]
    documents, (data,) = read_submission(tmp_path / "out")
    rows = [0, 1, 2, 6]
    (energy,) = data["independent_variables"]
    assert energy["header"] == {"name": "Energy", "units": "GeV"}
    assert [v["low"] for v in energy["values"]] == table.e_min[rows].tolist()
    assert [v["high"] for v in energy["values"]] == table.e_max[rows].tolist()

    measured = column(data, "Flux")
    values = [v["value"] for v in measured["values"]]
    assert values == [table.dnde[0], "-", "-", table.dnde[6]]
    assert ["errors" in v for v in measured["values"]] == [True, False, False, True]
    low, high = table.systematics["proton_shift"]
    for i, entry in ((0, measured["values"][0]), (6, measured["values"][3])):
        errors = {e["label"]: e for e in entry["errors"]}
        assert set(errors) == {"stat", "sys,acceptance", "sys,proton_shift"}
        stat = errors["stat"]["asymerror"]
        assert (stat["minus"], stat["plus"]) == (-table.dnde_errn[i], table.dnde_errp[i])
        assert errors["sys,acceptance"]["symerror"] == table.systematics["acceptance"][0][i]
        shift = errors["sys,proton_shift"]
        if i == 0:
            assert shift["asymerror"] == {"minus": -low[0], "plus": high[0]}
        else:
            assert shift["symerror"] == high[6]

    for name, field, error in (
        ("Upper limit of the flux", "dnde_ul", None),
        ("Reference energy", "e_ref", None),
        ("Events above the score cut", "n_data", None),
        ("Events without background, efficiency corrected", "counts", None),
        ("Background fraction", "background_fraction", "background_fraction_err"),
        ("Efficiency of the score cut", "efficiency", "efficiency_err"),
        ("Acceptance before the score cut", "acceptance", "acceptance_err"),
    ):
        entries = column(data, name)["values"]
        np.testing.assert_array_equal(
            [value_or_nan(e) for e in entries], getattr(table, field)[rows]
        )
        if error:
            found = [e["errors"][0]["symerror"] if "errors" in e else math.nan for e in entries]
            np.testing.assert_array_equal(found, getattr(table, error)[rows])

    for variable in data["dependent_variables"]:
        qualifiers = {q["name"]: q["value"] for q in variable["qualifiers"]}
        assert qualifiers["Data"] == "SYNTHETIC data, not data of the experiment."
        assert qualifiers["Region"] == "fiducial"
        assert qualifiers["Livetime"] == SCALE
    limit = column(data, "Upper limit of the flux")
    assert {"name": "Confidence level", "value": 0.95} in limit["qualifiers"]
    head, entry = documents
    assert entry["name"].startswith("SYNTHETIC")
    assert "SYNTHETIC" in entry["keywords"][0]["values"]
    assert "SYNTHETIC" in head["comment"]
    assert "unpublished" in head["comment"]
    assert entry["location"] == "Publication: unpublished"
    assert f"SHA-256 of the histograms: {'ab' * 32}." in entry["description"]
    assert "Reference energy: Lafferty-Wyatt, spectral index -3.0." in entry["description"]
    assert "Left out: 36.3 to 47.9 GeV: no efficiency" in entry["description"]
    assert "47.9 to 55.0 GeV: flux, error or upper limit is not finite" in entry["description"]


@given(
    st.lists(st.floats(1e-300, 1e300, allow_subnormal=False), min_size=1, max_size=4, unique=True)
)
def test_the_digits_of_hepdata_lib_are_enough(values):
    """17 of them keep a float: the library's rounding, its YAML, and our count of digits."""
    from analysis.exports import hepdata  # noqa: PLC0415

    library = hepdata._library()
    variable = library.Variable("x", is_independent=False, is_binned=False, values=values)
    variable.digits = hepdata._DIGITS
    text = yaml.safe_dump([entry["value"] for entry in variable.make_dict()["values"]])
    assert yaml.safe_load(text) == values


def test_real_data_are_not_marked(tmp_path):
    write_hepdata({"fiducial": make_table()}, tmp_path / "out", publication="2017Natur.552...63D")
    text = "".join(p.read_text() for p in sorted((tmp_path / "out").iterdir()))
    assert "SYNTHETIC" not in text
    assert "2017Natur.552...63D" in text
    assert "unpublished" not in text


def test_several_tables_and_published_numbers(tmp_path):
    table = published()
    write_hepdata({"fiducial": make_table(), "2017": table}, tmp_path / "out")
    documents, data = read_submission(tmp_path / "out")
    assert [d["name"] for d in documents[1:]] == ["flux fiducial", "flux 2017"]
    entries = column(data[1], "Flux")["values"]
    assert [e["value"] for e in entries] == table.dnde.tolist()
    # the first statistical error is printed as 0.00e-2
    assert [e["errors"][0]["symerror"] for e in entries] == table.dnde_errp.tolist()
    assert [e["errors"][1]["symerror"] for e in entries] == table.systematics["all"][1].tolist()
    assert {e["value"] for e in column(data[1], "Upper limit of the flux")["values"]} == {"-"}


def test_livetime_per_bin_is_a_column(table, tmp_path):
    columns = {name: getattr(table, name) for name in FluxTable.__dataclass_fields__}
    livetime = table.livetime * [1, 1, 2, 1, 1, 1, 1]
    write_hepdata({"x": FluxTable(**{**columns, "livetime": livetime})}, tmp_path / "out")
    _, (data,) = read_submission(tmp_path / "out")
    times = [v["value"] for v in column(data, "Livetime")["values"]]
    assert times == [SCALE, SCALE, 2 * SCALE, SCALE]


def test_the_archive_is_the_folder_and_the_same_every_time(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = write_hepdata({"x": table}, "one")
    second = write_hepdata({"x": table}, tmp_path / "two")
    assert first[-1].read_bytes() == second[-1].read_bytes()
    with tarfile.open(first[-1]) as tar:
        assert {m.mtime for m in tar.getmembers()} == {0}
        for member in tar.getmembers():
            content = tar.extractfile(member).read()
            assert content == (tmp_path / "two" / member.name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "one", "one.tar.gz", "two", "two.tar.gz",
    ]  # fmt: skip


def repack(archive, change):
    """Change the text of the data file inside an archive."""
    stream = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=stream, mode="w") as new:
        for member in old.getmembers():
            content = old.extractfile(member).read()
            if member.name != "submission.yaml":
                content = yaml.safe_dump(change(yaml.safe_load(content))).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    archive.write_bytes(gzip.compress(stream.getvalue()))


def shorter(data):
    data["independent_variables"][0]["values"].pop()
    return data


def no_high(data):
    del data["independent_variables"][0]["values"][0]["high"]
    return data


def zero_errors(data):
    data["dependent_variables"][0]["values"][0]["errors"] = [{"symerror": 0.0, "label": "stat"}]
    return data


def no_dependent(data):
    del data["dependent_variables"]
    return data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shorter, "length"),
        (no_high, "high"),
        (zero_errors, "not all be zero"),
        (no_dependent, "dependent_variables"),
    ],
)
def test_the_validator_refuses_broken_submissions(table, tmp_path, change, said):
    archive = write_hepdata({"x": table}, tmp_path / "out")[-1]
    validate_archive(archive)
    repack(archive, lambda data: data)
    validate_archive(archive)
    repack(archive, change)
    with pytest.raises(FluxExportError, match=rf"(?s)refuses out\.tar\.gz: .*{said}"):
        validate_archive(archive)


def test_a_refused_submission_is_not_written(table, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "analysis.exports.hepdata._pack", lambda _, archive: archive.write_text("x")
    )
    with pytest.raises(FluxExportError, match="Unable to extract"):
        write_hepdata({"x": table}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_hepdata_replaces_only_submissions(table, tmp_path):
    out = tmp_path / "out"
    write_hepdata({"x": table, "y": table}, out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_hepdata({"x": table}, out)
    write_hepdata({"x": table}, out, overwrite=True)
    assert len(list(out.iterdir())) == 2
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(FluxExportError, match=r"holds thesis\.tex"):
        write_hepdata({"x": table}, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "card.yaml").write_text("a: 1")
    with pytest.raises(FluxExportError, match=r"holds card\.yaml"):
        write_hepdata({"x": table}, tmp_path / "cards", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FluxExportError, match="not a folder"):
        write_hepdata({"x": table}, tmp_path / "file", overwrite=True)
    (tmp_path / "free.tar.gz").write_text("")
    with pytest.raises(FileExistsError, match=r"free\.tar\.gz exists"):
        write_hepdata({"x": table}, tmp_path / "free")


def test_the_old_submission_comes_back(table, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_hepdata({"x": table}, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    replace = type(out).replace

    def full(self, target):
        if self.name == "submission":
            msg = "disk full"
            raise OSError(msg)
        return replace(self, target)

    monkeypatch.setattr(type(out), "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_hepdata({"y": table}, out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_without_hepdata_lib(table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hepdata_lib", None)
    with pytest.raises(FluxExportError, match=r"hepdata_lib; .* pip install -e '\.\[hepdata\]'"):
        write_hepdata({"x": table}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_library_leaves_our_warnings_alone(table, tmp_path):
    before = list(warnings.filters)
    write_hepdata({"x": table}, tmp_path / "out")
    assert warnings.filters == before


def test_names_too_long_for_hepdata(table, tmp_path):
    with pytest.raises(FluxExportError, match="longer than the 64 characters"):
        write_hepdata({"x" * 60: table}, tmp_path / "out")


# --- CRDB


USINE_TYPES = "U20,U60,U5,f8,f8,f8,f8,f8,f8,f8,f8,U40,f8,f8,U60,i8"


def read_usine(path):
    return np.genfromtxt(path, dtype=USINE_TYPES, names=None, encoding="utf-8", comments="#")


def test_usine(table, tmp_path):
    path = write_crdb({"fiducial": table}, tmp_path / "f.usine")
    rows = read_usine(path)
    assert len(USINE_COLUMNS) == len(rows.dtype.names) == 16
    assert set(rows["f0"]) == {"e-+e+"}
    assert set(rows["f1"]) == {"DAMPE-SYNTHETIC(2015/12-2025/10)"}
    assert set(rows["f2"]) == {"ETOT"}
    index = [0, 1, 2, 6]
    for field, name in (("f3", "e_ref"), ("f4", "e_min"), ("f5", "e_max")):
        assert rows[field].tolist() == getattr(table, name)[index].tolist()
    assert rows["f6"].tolist() == [*(table.dnde[0], *table.dnde_ul[1:3]), table.dnde[6]]
    assert rows["f15"].tolist() == [0, 1, 1, 0]
    low, high = table.total_systematic()
    expected = np.array([table.dnde_errn, table.dnde_errp, low, high]).T[index]
    expected[1:3] = 0
    np.testing.assert_array_equal(np.array([rows[f"f{i}"] for i in range(7, 11)]).T, expected)
    # in quadrature, each side alone, by hand
    assert rows["f10"][0] == pytest.approx(table.dnde[0] * math.hypot(1 / 30, 0.04), rel=1e-12)
    assert rows["f9"][0] == pytest.approx(table.dnde[0] * math.hypot(1 / 30, 0.02), rel=1e-12)
    assert set(rows["f11"]) == {"unpublished"}
    assert set(rows["f14"]) == {"2015/12/01-000000:2025/10/31-235959"}
    text = path.read_text()
    assert "# fiducial: SYNTHETIC" in text
    assert "# fiducial: left out 36.3 to 47.9 GeV: no efficiency" in text
    assert "confidence level 0.95" in text


def read_import(path):
    """Rows as the reader of CRDB's own package takes them: comments first, then csv."""
    lines = path.read_text("utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    assert comments[-1] == "# " + ",".join(CSV_COLUMNS)
    return [dict(zip(CSV_COLUMNS, r, strict=True)) for r in csv.reader(lines[len(comments) :])]


def test_csv(table, tmp_path):
    data = Dataset("DAMPE", "2016/02-2020/02", "2017Natur.552...63D", 0.013)
    tables = {"fiducial": table, "topfiducial": make_table()}
    rows = read_import(write_crdb(tables, tmp_path / "f.csv", data))
    assert len(CSV_COLUMNS) == 23
    assert [r["SUBEXP-NAME"] for r in rows] == [
        *["DAMPE-SYNTHETIC-fiducial (2016/02-2020/02)"] * 4,
        *["DAMPE-topfiducial (2016/02-2020/02)"] * 4,
    ]
    assert [r["EXP-NAME"] for r in rows] == [*["DAMPE-SYNTHETIC"] * 4, *["DAMPE"] * 4]
    assert ["SYNTHETIC" in r["SUBEXP-INFO"] for r in rows] == [True] * 4 + [False] * 4
    assert {r["SUBEXP-DATES"] for r in rows} == {"2016/02/01-000000:2020/02/29-235959"}
    assert {r["PUBLI-HTML"] for r in rows} == {"2017Natur.552...63D"}
    assert {r["EXP-STARTYEAR"] for r in rows} == {"2016"}
    assert {r["SUBEXP-ESCALE_RELERR"] for r in rows} == {"0.013"}
    assert {(r["DATA-QTY"], r["DATA-EAXIS"]) for r in rows} == {("e-+e+", "ETOT")}
    assert [r["DATA-ISUPPERLIM"] for r in rows] == ["0", "1", "1", "0"] * 2
    # the same numbers as the other form
    usine = read_usine(write_crdb(tables, tmp_path / "f.usine", data))
    for i, name in enumerate(CSV_COLUMNS[14:22], start=3):
        assert [float(r[name]) for r in rows] == usine[f"f{i}"].tolist()


def test_round_trip_of_the_published_numbers(tmp_path):
    """38 rows of 2017 through flux table, file, USINE and back, to the last bit."""
    table = published()
    file = write_flux_table(table, tmp_path / "dampe2017.ecsv")
    (label,) = tables = read_tables([file])
    assert label == "dampe2017"
    data = Dataset(dates="2015/12-2017/06", publication="2017Natur.552...63D")
    rows = read_usine(write_crdb(tables, tmp_path / "f.usine", data))
    spectrum = load("dampe_2017_electron_positron")
    assert set(rows["f1"]) == {"DAMPE(2015/12-2017/06)"}
    assert not rows["f15"].any()
    fields = ("e_mean", "e_min", "e_max", "dnde", "stat_n", "stat_p", "sys_n", "sys_p")
    for i, name in enumerate(fields, start=3):
        assert rows[f"f{i}"].tolist() == getattr(spectrum, name).tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experiment": "DAM PE"}, "experiment 'DAM PE' must be one word"),
        ({"publication": "Nature 552"}, "publication 'Nature 552' must be one word"),
        ({"publication": "a,b"}, "one word"),
        ({"dates": "2015-2025"}, "must look like 2015/12-2025/10"),
        ({"dates": "2015/13-2025/10"}, "must look like"),
        ({"dates": "2015/12"}, "must look like"),
        ({"dates": "2025/10-2015/12"}, "end before they begin"),
        ({"energy_scale_error": 1.3}, r"must be in \[0, 1\), got 1\.3"),
        ({"energy_scale_error": math.nan}, "got nan"),
    ],
)
def test_bad_descriptions_of_the_data(change, said):
    with pytest.raises(FluxExportError, match=said):
        Dataset(**change)


def test_crdb_refusals(table, tmp_path):
    with pytest.raises(FluxExportError, match=r"a livetime of 1e\+08 s does not fit into 2016/01"):
        write_crdb({"x": table}, tmp_path / "f.usine", Dataset(dates="2016/01-2016/12"))
    with pytest.raises(FluxExportError, match=r"suffix '\.dat'; use \.usine or \.csv"):
        write_crdb({"x": table}, tmp_path / "f.dat")
    write_crdb({"x": table}, tmp_path / "f.csv")
    with pytest.raises(FileExistsError, match=r"f\.csv exists"):
        write_crdb({"x": table}, tmp_path / "f.csv")
    before = (tmp_path / "f.csv").read_bytes()
    write_crdb({"x": table}, tmp_path / "f.csv", overwrite=True)
    assert (tmp_path / "f.csv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.csv"]


# --- LaTeX


def check_latex(text):
    """Braces, environments, mathematics and commands of a fragment; as a compiler would stop."""
    assert text.isascii()
    text = re.sub(r"(?m)(?<!\\)%.*$", "", text)
    bare = re.sub(r"\\[{}$&%#_]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)
    parts = bare.split("$")
    assert len(parts) % 2 == 1
    for outside in parts[::2]:
        assert not re.search(r"[\^_#~<]", outside)
    known = {
        "begin", "end", "caption", "label", "toprule", "midrule", "bottomrule", "endfirsthead",
        "endhead", "endfoot", "textbf", "textbackslash", "textasciitilde", "textasciicircum",
        "langle", "rangle", "Phi", "pm", "sigma", "mathrm", "times",
    }  # fmt: skip
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= known
    for inside in set(parts[1::2]):
        MathTextParser("path").parse(f"${inside.replace(',', '')}$")
    # nothing that takes two exponents: a^{..}^{..}
    assert not re.search(r"\^\{[^}]*\}\s*\^", text)


def body(text):
    return [
        [cell.strip() for cell in line.removesuffix(r"\\").split("&")]
        for line in text.split(r"\endfoot")[1].split(r"\end{longtable}")[0].strip().splitlines()
    ]


def test_latex_by_hand(table):
    text = latex_text({"fiducial": table})
    check_latex(text)
    rows = body(text)
    assert [len(r) for r in rows] == [7, 7, 7, 7]
    # N = 33333.3: flux 0.9 N / (0.9 · 0.3 · 1e8 · 3.5) = 3.1746e-4; stat: 182.57 (+) background
    # 333.3 (+) efficiency 333.3, of 30000: 1.686 %; sys: 1/30 (+) 2 % and 4 %
    assert rows[0] == [
        "24.0--27.5",
        f"{table.e_ref[0]:.1f}",
        r"$0.300 \pm 0.010$",
        r"$0.900 \pm 0.010$",
        "33333.3",
        r"$10.0 \pm 1.0$",
        r"$(3.17 \pm 0.05 ^{+0.17}_{-0.12})\times10^{-4}$",
    ]
    # no counts: limit 3 events / (0.9 · 0.3 · 1e8 · 4.1) = 2.706e-8
    assert rows[1][4:] == ["0", "--", r"$<2.8\times10^{-8}$"]
    assert rows[2][6].startswith("$<")
    assert rows[3][0] == "1513.6--1737.8"
    assert r"\textbf{SYNTHETIC data, not data of the experiment.}" in text
    assert r"upper limits at 95\,\% confidence" in text
    assert "Left out: 36.3 to 47.9 GeV: no efficiency" in text
    real = latex_text({"fiducial": make_table()})
    assert "SYNTHETIC" not in real


def test_latex_of_the_published_table():
    """Our rounding gives back the printed flux; errors that are printed with more digits, to one."""
    table = published()
    text = latex_text({"2017": table})
    check_latex(text)
    rows = body(text)
    assert len(rows) == 38
    assert "upper limits" not in text
    for i, row in enumerate(rows):
        match = re.fullmatch(
            r"\$\(([\d.]+) \\pm ([\d.]+) \\pm ([\d.]+)\)\\times10\^{(-\d+)}\$", row[6]
        )
        assert match, row[6]
        value, stat, sys_ = (float(Decimal(match[k]).scaleb(int(match[4]))) for k in (1, 2, 3))
        unit = 10.0 ** (int(match[4]) - len(match[1].split(".")[-1]))
        assert abs(value - table.dnde[i]) <= unit / 2 * (1 + 1e-9)
        assert abs(stat - table.dnde_errp[i]) <= unit / 2 * (1 + 1e-9)
        assert abs(sys_ - table.systematics["all"][1][i]) <= unit / 2 * (1 + 1e-9)
        assert row[4] == str(int(table.n_data[i]))
    assert rows[30][0] == "1513.6--1737.8"
    assert rows[30][6] == r"$(1.52 \pm 0.28 \pm 0.06)\times10^{-8}$"


def test_limits_are_never_rounded_down():
    def limit_of(value):
        table = flux([0], np.nan, np.nan, 1.0, 0.0, 1.0, 0.0, 1.0, [10.0], [11.0])
        columns = {name: getattr(table, name) for name in FluxTable.__dataclass_fields__}
        (row,) = body(latex_text({"x": FluxTable(**{**columns, "dnde_ul": [value]})}))
        found = re.fullmatch(r"\$<(\d\.\d)\\times10\^{(-?\d+)}\$", row[6])
        return Decimal(found[1]).scaleb(int(found[2]))

    assert limit_of(9.91e-9) == Decimal("1.0e-8")
    assert limit_of(1.01) == Decimal("1.1")
    for value in np.geomspace(1e-12, 1e3, 200):
        assert Decimal(value) <= limit_of(value) <= Decimal(value) * Decimal("1.1")


def test_latex_escapes_text_and_separates_narrow_bins():
    table = flux(
        [400, 100], 0.1, 0.0, 0.9, 0.0, [0.3, np.nan], 0.0, 1e6, [10, 10.004], [10.004, 10.009]
    )
    failed = [{"bin": 1, "reason": "50 % of a_b & {x}^2 ~ $3 # \\ ζ"}]
    columns = {name: getattr(table, name) for name in FluxTable.__dataclass_fields__}
    odd = FluxTable(**{**columns, "meta": {"failed_bins": failed}, "systematics": {}})
    text = latex_text({"a-b": odd, "c": odd})
    check_latex(text)
    assert r"50 \% of a\_b \& \{x\}\textasciicircum{}2 \textasciitilde{} \$3 \#" in text
    assert text.count(r"\begin{longtable}") == 2
    (row,) = body(text.split(r"\end{longtable}")[0] + r"\end{longtable}")
    assert row[0] == "10.0000--10.0040"
    assert row[3] == "$0.900$"
    assert row[6].count(r"\pm") + row[6].count("^{+") == 1


def test_latex_file(table, tmp_path):
    path = write_latex({"x": table}, tmp_path / "f.tex")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_latex({"x": table}, path)
    before = path.read_bytes()
    assert write_latex({"x": table}, path, overwrite=True).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.tex"]
