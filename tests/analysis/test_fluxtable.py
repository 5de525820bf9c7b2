import json

import numpy as np
import pytest
from astropy import units
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.exceptions import FluxTableError
from analysis.flux import flux
from analysis.fluxtable import COLUMNS, FluxTable, read_flux_table, write_flux_table

SUFFIXES = ["ecsv", "csv", "json"]


@pytest.fixture
def table():
    meta = {
        "inputs": [{"path": "café # 1.root", "sha256": "ab" * 32, "livetime_s": 1e6 / 3}],
        "synthetic": True,
        "note": "two\nlines: yes",
        "when": "2017-11-29",
        "nothing": None,
    }
    made = flux(
        [1e5 / 3, 0, 5, 7],
        [0.1, np.nan, 1.7, 0.1],
        0.01,
        [0.9, 0.9, 0.9, 0.0],
        0.01,
        0.3,
        0.01,
        1e6,
        [10, 20, 30, 40],
        [20, 30, 40, 55.5],
        meta=meta,
    )
    return made.with_systematic("proton_shift", [1e-9, 0, 0, np.nan], [2e-9, 0, np.inf, 1e-300])


def assert_same(one, other):
    assert list(one.columns()) == list(other.columns())
    for name, values in one.columns().items():
        back = other.columns()[name]
        assert back.dtype == values.dtype
        assert back.tobytes() == values.tobytes() or np.array_equal(back, values, equal_nan=True)
    assert one.meta == other.meta


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(table, tmp_path, suffix):
    path = write_flux_table(table, tmp_path / f"flux.{suffix}")
    assert_same(table, read_flux_table(path))
    assert [entry.name for entry in tmp_path.iterdir()] == [f"flux.{suffix}"]


numbers = hnp.arrays(np.float64, 3, elements=st.floats(allow_nan=True, allow_infinity=True))


@settings(deadline=None)
@given(numbers, numbers, st.text())
def test_round_trip_of_any_number(tmp_path_factory, values, more, text):
    fixed = dict.fromkeys(COLUMNS, values)
    table = FluxTable(
        **fixed, success=[True, False, True], systematics={"a_n": (more, values)}, meta={"t": text}
    )
    folder = tmp_path_factory.mktemp("any")
    for suffix in SUFFIXES:
        assert_same(table, read_flux_table(write_flux_table(table, folder / f"t.{suffix}")))


def test_columns_are_the_agreed_ones(table):
    assert list(table.columns()) == [
        *("e_min", "e_max", "e_ref", "dnde", "dnde_errn", "dnde_errp", "dnde_ul", "n_data"),
        *("counts", "background_fraction", "background_fraction_err", "efficiency"),
        *("efficiency_err", "acceptance", "acceptance_err", "livetime"),
        *("sys_acceptance_n", "sys_acceptance_p", "sys_proton_shift_n", "sys_proton_shift_p"),
        "success",
    ]


def test_astropy_reads_the_ecsv(table, tmp_path):
    read = Table.read(write_flux_table(table, tmp_path / "flux.ecsv"))
    assert read["dnde"].unit == units.Unit("GeV-1 m-2 s-1 sr-1")
    assert read["acceptance"].unit == units.m**2 * units.sr
    assert read["livetime"].unit == units.s
    assert read["efficiency"].unit is None
    assert read["success"].dtype == np.bool_
    assert read["success"].tolist() == [True, True, True, False]
    assert read["e_min"].description == "lower edge of the energy bin"
    for name, values in table.columns().items():
        np.testing.assert_array_equal(np.asarray(read[name]), values)
    assert read.meta["schema"] == "cre-fluxtable/1"
    assert read.meta["meta"]["inputs"][0]["sha256"] == "ab" * 32


def test_csv_header_carries_units_and_hash(table, tmp_path):
    lines = write_flux_table(table, tmp_path / "flux.csv").read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert "#     dnde: GeV-1 m-2 s-1 sr-1" in header
    assert any("columns_sha256" in line for line in header)
    assert any("ab" * 32 in line for line in header)
    assert lines[len(header)].startswith("e_min,e_max,e_ref,dnde,")
    assert len(lines) == len(header) + 5


def test_json_is_strict_and_shares_the_hash(table, tmp_path):
    def refuse(text):
        raise AssertionError(text)

    text = write_flux_table(table, tmp_path / "flux.json").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["columns"]["dnde"][3] is None
    assert content["columns"]["sys_proton_shift_p"][2] == "inf"
    assert content["units"]["e_ref"] == "GeV"
    csv_text = write_flux_table(table, tmp_path / "flux.csv").read_text()
    assert content["columns_sha256"] in csv_text


def test_existing_files_are_kept(table, tmp_path):
    path = tmp_path / "flux.csv"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"flux\.csv exists"):
        write_flux_table(table, path)
    assert path.read_text() == "precious"
    write_flux_table(table, path, overwrite=True)
    assert_same(table, read_flux_table(path))


def test_a_failed_write_leaves_nothing(table, tmp_path, monkeypatch):
    def broken(*_):
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr("pathlib.Path.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_flux_table(table, tmp_path / "flux.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_changed_number_is_noticed(table, tmp_path, suffix):
    path = write_flux_table(table, tmp_path / f"flux.{suffix}")
    text = path.read_text()
    assert text.count("55.5") >= 1
    path.write_text("55.6".join(text.rsplit("55.5", 1)))
    with pytest.raises(FluxTableError, match=r"flux.* changed after it was written"):
        read_flux_table(path)


@pytest.mark.parametrize(
    ("suffix", "change", "reason"),
    [
        ("csv", lambda t: t[: t.rindex(",")], "number of fields"),
        ("csv", lambda t: t.replace("cre-fluxtable/1", "cre-fluxtable/9"), "cre-fluxtable/9"),
        ("csv", lambda t: t.replace("e_min,e_max", "e_min,e_top"), "unknown column 'e_top'"),
        ("csv", lambda t: t.replace("0.3,", "three,"), "three"),
        ("csv", lambda t: t.replace(",True", ",yes"), "KeyError 'yes'"),
        ("csv", lambda t: "\n".join(x for x in t.splitlines() if x[0] == "#"), "KeyError"),
        ("csv", lambda _: "", "is not a usable flux table"),
        ("csv", lambda _: "# [1, 2\ne_min\n1.0\n", "is not a usable flux table"),
        ("ecsv", lambda t: t[:80], "is not a usable flux table"),
        ("json", lambda t: t[:-40], "is not a usable flux table"),
        ("json", lambda t: t.replace('"columns"', '"rows"'), "KeyError 'columns'"),
        ("json", lambda t: t.replace("sys_proton_shift_p", "sys_proton_shift_q"), "unknown column"),
    ],
)
def test_damaged_files_are_named(table, tmp_path, suffix, change, reason):
    path = write_flux_table(table, tmp_path / f"flux.{suffix}")
    path.write_text(change(path.read_text()))
    with pytest.raises(FluxTableError, match=rf"flux\.{suffix} is not a usable") as caught:
        read_flux_table(path)
    assert reason in str(caught.value)


def test_unknown_suffix(table, tmp_path):
    with pytest.raises(FluxTableError, match=r"suffix '\.fits'; use one of \.ecsv, \.csv, \.json"):
        write_flux_table(table, tmp_path / "flux.fits")
    with pytest.raises(FluxTableError, match="suffix ''"):
        read_flux_table(tmp_path / "flux")


def test_table_is_read_only_and_checks_its_shape(table):
    with pytest.raises(ValueError, match="read-only"):
        table.dnde[0] = 1.0
    with pytest.raises(FluxTableError, match=r"'sys_scale_n' has shape \(2,\)"):
        table.with_systematic("scale", [1.0, 2.0], np.zeros(4))
    with pytest.raises(FluxTableError, match="'Energy scale' must be lower-case"):
        table.with_systematic("Energy scale", np.zeros(4), np.zeros(4))
    columns = {name: np.zeros(4) for name in COLUMNS}
    with pytest.raises(FluxTableError, match="'success' has shape"):
        FluxTable(**columns, success=np.ones(3, dtype=bool))
    with pytest.raises(FluxTableError, match=r"'dnde' has shape \(3,\)"):
        FluxTable(**(columns | {"dnde": np.zeros(3)}), success=np.ones(4, dtype=bool))
    assert len(table) == 4


def test_systematics_add_in_quadrature():
    base = flux(100, 0.0, 0.0, 1.0, 0.0, 0.3, 0.03, 1e6, 10, 20)
    size = float(base.dnde[0])
    table = base.with_systematic("scale", [0.2 * size], [0.3 * size])
    low, high = table.total_systematic()
    assert low == pytest.approx([size * np.hypot(0.1, 0.2)])
    assert high == pytest.approx([size * np.hypot(0.1, 0.3)])
    assert "scale" not in base.systematics


def test_metadata_becomes_plain():
    meta = {
        "a": np.float64(1.5),
        "b": (1, np.int64(2)),
        "c": np.array([1.0, np.nan]),
        3: np.bool_(True),
        "d": SUFFIXES.__class__,
    }
    table = flux(1, 0.0, 0.0, 1.0, 0.0, 0.3, 0.0, 1.0, 1, 2, meta=meta)
    assert table.meta["a"] == 1.5
    assert type(table.meta["a"]) is float
    assert table.meta["b"] == [1, 2]
    assert table.meta["c"] == [1.0, None]
    assert table.meta["3"] is True
    assert table.meta["d"] == "<class 'list'>"
