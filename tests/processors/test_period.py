"""Periods, months and runs: borders, refusals, and which events are used."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ntuples import sample_record, toy_events
from pydantic import ValidationError

from processors import run as r
from processors.chain import make_cut
from processors.exceptions import ManifestError, NtupleError
from processors.ledger import livetime_ledger, months_of
from processors.livetime import Run
from processors.manifest import FileEntry, build
from processors.monthly import ALL_CUTS, trimmed
from processors.period import (
    FIRST_MONTH,
    NO_MONTH,
    UNUSED,
    Period,
    find_runs,
    month_name,
    month_of,
    run_table,
    select_runs,
)
from processors.processor import RunConfig
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
DAY = 86_400.0


def met(*date: int) -> float:
    """Mission elapsed time of a UTC date, s."""
    return (datetime(*date, tzinfo=UTC) - datetime(2013, 1, 1, tzinfo=UTC)).total_seconds()


#: Run to start and livetime: two in December 2015, one in January 2016, one in March 2016.
RUNS = {
    1: (met(2015, 12, 30), 100.0),
    2: (met(2015, 12, 31, 23, 59, 59), 200.0),  # goes on into January
    3: (met(2016, 1, 1), 400.0),
    4: (met(2016, 3, 31), 800.0),
}


def record(numbers: tuple[int, ...]) -> dict[str, Any]:
    runs = [
        {"run": n, "start_s": RUNS[n][0], "stop_s": RUNS[n][0] + DAY / 2, "livetime_s": RUNS[n][1]}
        for n in numbers
    ]
    return sample_record("data") | {"runs": runs}


@pytest.fixture
def mixed(make_ntuple: MakeNtuple) -> FileEntry:
    """One file with 800 events, runs 1 to 4 in turns."""

    def runs(branches: dict[str, Any]) -> None:
        branches["tt_run"] = (np.arange(800) % 4 + 1).astype(np.int32)

    path = make_ntuple("data", n=800, seed=1, change=runs, record=record((1, 2, 3, 4)))
    return build([str(path)]).files[0]


def config(**change: Any) -> RunConfig:
    cuts = (
        make_cut("trigger"),
        make_cut("energy_range", {"min_gev": 100.0, "max_gev": 3000.0}),
        make_cut("region"),
    )
    target = {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()}
    options: dict[str, Any] = {
        "cuts": cuts, "regions": ("fiducial",), "score": "zeta", "target": target,
        "generated": {"new": {"electron": [], "proton": []}},
    }  # fmt: skip
    return RunConfig(**(options | change))


def test_months_are_calendar_months() -> None:
    for date, month, name in (
        ((2013, 1, 1), 0, "2013-01"),
        ((2013, 12, 31, 23, 59, 59), 11, "2013-12"),
        ((2015, 12, 30), FIRST_MONTH, "2015-12"),
        ((2016, 2, 29), 37, "2016-02"),
        ((2016, 3, 1), 38, "2016-03"),
        ((2025, 10, 31), 153, "2025-10"),
    ):
        assert month_of(met(*date)) == month
        assert month_name(month) == name
    assert met(2015, 12, 30) == 1093 * DAY  # the start of the flight in the simulation
    assert month_name(NO_MONTH) == "unknown"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({}, "by dates"),
        ({"from": "2016-01-01", "last_run": 3}, "by dates"),
        ({"from": "2016-02-01", "to": "2016-01-01"}, "begins on 2016-02-01, after its end"),
        ({"first_run": 4, "last_run": 3}, "begins with run 4"),
        ({"from": "2016-13-01"}, "month value"),
        ({"since": "2016-01-01"}, "Extra inputs"),
    ],
)
def test_periods_that_make_no_sense(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Period.model_validate(entry)


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        ({"from": "2016-01-01"}, [3, 4]),
        ({"to": "2015-12-31"}, [1, 2]),  # by its start, though run 2 ends in January
        ({"from": "2015-12-31", "to": "2016-01-01"}, [2, 3]),
        ({"from": "2016-01-02", "to": "2016-03-31"}, [4]),
        ({"first_run": 2, "last_run": 3}, [2, 3]),
        ({"first_run": 4}, [4]),
        ({"last_run": 1}, [1]),
    ],
)
def test_a_run_belongs_to_a_period_by_its_start(
    mixed: FileEntry, entry: dict[str, Any], used: list[int]
) -> None:
    (chosen,) = select_runs([mixed], Period.model_validate(entry))
    assert [run.run_first for run in chosen.runs] == used
    assert chosen.livetime_s == sum(RUNS[n][1] for n in used)
    assert sorted(run.run_first for run in chosen.unused_runs) == sorted({1, 2, 3, 4} - {*used})
    assert "unused_runs" not in chosen.model_dump()


def test_files_without_a_run_are_not_planned(make_ntuple: MakeNtuple) -> None:
    paths = [
        make_ntuple("data", n=50, seed=n, run=n, record=record((n,)), name=f"{n}.root")
        for n in (1, 3)
    ]
    paths.append(make_ntuple("electron", n=50, seed=5))
    files = build([str(p) for p in paths]).files
    chosen = select_runs(files, Period.model_validate({"from": "2016-01-01"}))
    assert [Path(f.path).name for f in chosen] == ["3.root", paths[2].name]
    assert chosen[1] == files[2]
    assert select_runs(files, None) == files
    with pytest.raises(ManifestError, match=r"no run of the period from 2017-01-01.*runs 1 to 3"):
        select_runs(files, Period.model_validate({"from": "2017-01-01"}))
    with pytest.raises(ManifestError, match=r"no run of the period to run 0"):
        select_runs(files, Period.model_validate({"last_run": 0}))


def test_runs_that_cannot_be_told_apart_are_refused(mixed: FileEntry) -> None:
    nameless = mixed.model_copy(update={"fields": [f for f in mixed.fields if f != "run"]})
    half = Period.model_validate({"last_run": 2})
    with pytest.raises(ManifestError, match="does not store the run of its events"):
        select_runs([nameless], half)
    # all or nothing of it needs no run numbers, but then its months are not known
    assert select_runs([nameless], Period.model_validate({"last_run": 4}))[0].runs == mixed.runs
    assert run_table(nameless) == [[1, 4, NO_MONTH]]
    whole = Run(
        run_first=1, run_last=9, start_s=met(2016, 1, 5), stop_s=met(2016, 2, 5), livetime_s=1
    )
    file = mixed.model_copy(update={"runs": [whole]})
    for entry in (
        {"from": "2016-01-20"},
        {"to": "2016-01-20"},
        {"first_run": 3},
        {"first_run": 2, "last_run": 8},
    ):
        with pytest.raises(ManifestError, match="lies within the runs 1 to 9"):
            select_runs([file], Period.model_validate(entry))
    assert select_runs([file], Period.model_validate({"from": "2016-01-05"}))[0].runs == [whole]
    timeless = mixed.model_copy(update={"runs": [Run(run_first=1, run_last=1, livetime_s=1)]})
    with pytest.raises(ManifestError, match="start of run 1 is not known"):
        select_runs([timeless], Period.model_validate({"from": "2016-01-05"}))


def test_run_table_and_look_up(mixed: FileEntry) -> None:
    assert run_table(mixed) == [[1, 2, 35], [3, 3, 36], [4, 4, 38]]
    (chosen,) = select_runs([mixed], Period.model_validate({"first_run": 2, "last_run": 3}))
    table = run_table(chosen)
    assert table == [[1, 1, UNUSED], [2, 2, 35], [3, 3, 36], [4, 4, UNUSED]]
    assert find_runs([4, 3, 2, 1, 3], table).tolist() == [UNUSED, 36, 35, UNUSED, 36]
    for strange in (0, 5):
        with pytest.raises(NtupleError, match=f"events of run {strange}"):
            find_runs([1, strange], table)


def test_only_events_of_the_period_are_counted(mixed: FileEntry) -> None:
    """Against a plain mask, and the parts against the whole: exactly."""
    whole = r.execute(r.plan([mixed], 10_000), config()).output
    events = toy_events(800, 1, kind="data")
    e_corr = events["e_corr"].astype(np.float32)
    passing = events["trigger"] & (e_corr >= 100) & (e_corr < 3000) & events["fiducial"]
    number = np.arange(800) % 4 + 1
    sums = {name: np.zeros(h.view(flow=True).shape) for name, h in whole["hists"].items()}
    for numbers in ((1,), (2, 3), (4,)):
        (chosen,) = select_runs(
            [mixed], Period.model_validate({"first_run": numbers[0], "last_run": numbers[-1]})
        )
        part = r.execute(r.plan([chosen], 300), config()).output
        assert part["events"] == {"data": 200 * len(numbers)}
        count = int((passing & np.isin(number, numbers)).sum())
        assert count > 20
        assert part["hists"]["score"].sum(flow=True).value == count
        assert part["hists"]["monthly"].sum(flow=True).value == count
        for name, h in part["hists"].items():
            sums[name] += h.values(flow=True)
    for name, h in whole["hists"].items():
        np.testing.assert_array_equal(sums[name], h.values(flow=True), err_msg=name)


def test_monthly_counts_follow_the_runs(mixed: FileEntry) -> None:
    hists = r.execute(r.plan([mixed], 250), config()).output["hists"]
    assert months_of([mixed]) == [35, 36, 38]
    cut = trimmed(hists, months_of([mixed]))
    monthly = cut["monthly"]
    assert monthly.axes["month"].edges.tolist() == [35.0, 36.0, 37.0, 38.0, 39.0]
    events = toy_events(800, 1, kind="data")
    e_corr = events["e_corr"].astype(np.float32)
    inside = (e_corr >= 100) & (e_corr < 3000)
    passing = events["trigger"] & inside & events["fiducial"]
    month = np.array([35, 35, 36, 38])[np.arange(800) % 4]
    expected = [int((passing & (month == m)).sum()) for m in range(35, 39)]
    found = monthly["fiducial", "new", :, :, :].values(flow=True).sum(axis=(1, 2))
    assert found.tolist() == [0, *expected, 0]
    assert expected[2] == 0
    # a score and an energy of the analysis in every coarse bin
    edges = monthly.axes["energy"].edges
    counts, _ = np.histogram(e_corr[passing & (month == 35)], edges)
    np.testing.assert_array_equal(
        monthly["fiducial", "new", 0, :, :].project("energy").values(), counts
    )
    cuts = cut["monthly_cuts"]["fiducial", "new", :, :, :]
    every = cuts[ALL_CUTS, :, :].values().sum(axis=1)
    assert every.tolist() == expected
    others = inside & events["fiducial"] & (month == 38)
    assert cuts["trigger", :, :].values().sum(axis=1)[3] == others.sum()
    assert others.sum() > expected[3]
    assert set(trimmed(hists, [])) == set(hists) - {"monthly", "monthly_cuts"}


def test_livetime_ledger_counts_what_was_read(mixed: FileEntry) -> None:
    other = mixed.model_copy(update={"path": "other", "uuid": "o"})
    found = livetime_ledger([mixed, other], [mixed], "new")
    assert (found["livetime_s"], found["planned_livetime_s"]) == (1500.0, 3000.0)
    assert found["runs"] == [[1, 4]]
    assert list(found["months"]) == ["2015-12", "2016-01", "2016-03"]
    december = found["months"]["2015-12"]
    assert (december["livetime_s"], december["runs"]) == (300.0, 2)
    mean = (100.0 * RUNS[1][0] + 200.0 * RUNS[2][0]) / 300.0 + DAY / 4
    assert december["mean_s"] == pytest.approx(mean, abs=1e-3)
    (half,) = select_runs([mixed], Period.model_validate({"first_run": 2, "last_run": 3}))
    found = livetime_ledger([half], [half], "new")
    assert (found["livetime_s"], found["planned_livetime_s"], found["runs"]) == (
        600.0,
        600.0,
        [[2, 3]],
    )
    assert livetime_ledger([mixed], [mixed], "old")["livetime_s"] == 0
