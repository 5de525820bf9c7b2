"""Cut-flow tables against counts put in by hand."""

import hist

from analysis.cutflow import cutflow_table


def test_rows_in_the_order_of_the_chain() -> None:
    h = hist.Hist(
        hist.axis.StrCategory(["data", "electron"], name="kind"),
        hist.axis.StrCategory(["fiducial"], name="region"),
        hist.axis.StrCategory(["trigger", "edge"], name="cut"),
        hist.axis.StrCategory(["evaluated", "passed", "cumulative", "n_minus_1"], name="stat"),
        hist.axis.Variable([10.0, 100.0, 1000.0], name="energy"),
        storage=hist.storage.Weight(),
    )
    for cut, stat, energies in (
        ("trigger", "evaluated", [20.0, 200.0, 300.0, 5000.0]),  # the last lies above the bins
        ("trigger", "passed", [20.0, 200.0]),
        ("trigger", "cumulative", [20.0, 200.0]),
        ("edge", "n_minus_1", [200.0]),
    ):
        h.fill("data", "fiducial", cut, stat, energies)
    h.fill("electron", "fiducial", "edge", "passed", [20.0])
    first, second = cutflow_table(h, "data", "fiducial")
    assert first == {
        "cut": "trigger", "evaluated": 4.0, "passed": 2.0, "cumulative": 2.0, "n_minus_1": 0.0,
    }  # fmt: skip
    assert second["cut"] == "edge"
    assert second["n_minus_1"] == 1.0
    assert second["passed"] == 0.0
