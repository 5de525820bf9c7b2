"""``cre stability``: rate, efficiency and flux of a fixed range of energies, month by month."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.histfile import HistFile, load
from analysis.plots.stability import constancy_text, plot_stability
from analysis.plots.style import SYNTHETIC_LABEL, marked
from analysis.selection import default_region
from analysis.stability import Stability, stability
from analysis.stabilityfile import stability_json, stability_table
from analysis.textfile import write_text
from analysis.usable import partial, partial_text
from cre.analysiscard import AnalysisCard, analysis_card
from cre.measuring import partial_line, partial_option
from cre.provenance import program, record, sha256


@click.command("stability")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Stem, e.g. stability"
)
@click.option("--card", type=click.Path(path_type=Path), help="Card; default that of the file.")
@click.option("--region", type=click.Choice(["fiducial", "topfiducial"]), help="As for cre flux.")
@click.option("--bgo", help="BGO reconstruction; default the only one, 'new' if there are several.")
@click.option("--e-min-gev", type=float, help="Lowest energy; default the card's (stability).")
@click.option("--e-max-gev", type=float, help="Highest energy; default the card's.")
@partial_option
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    histograms: Path,
    output: Path,
    card: Path | None,
    region: str | None,
    bgo: str | None,
    e_min_gev: float | None,
    e_max_gev: float | None,
    partial: bool,
    overwrite: bool,
) -> None:
    """Follow the flux in HISTOGRAMS in time; writes OUTPUT.json, .csv, .png and .pdf.

    Each quantity is tested against a constant and fitted with a linear drift.
    """
    for suffix in (".json", ".csv", ".png", ".pdf"):
        path = output.with_name(output.name + suffix)
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another name or give --overwrite"
            raise FileExistsError(msg)
    output.parent.mkdir(parents=True, exist_ok=True)
    options = {"region": region, "bgo": bgo, "e_min_gev": e_min_gev, "e_max_gev": e_max_gev}
    arguments = {"file": histograms, "card": card, "partial": partial, **options}
    notes = output.with_name(output.name + ".provenance.json")
    with record(notes, "stability", arguments) as entry:
        content = load(histograms)
        entry.read(histograms)
        found = follow(
            content, analysis_card(card, content.meta), region, bgo, e_min_gev, e_max_gev,
            allow_incomplete=partial,
        )  # fmt: skip
        entry.wrote(
            write(found, content, output, histograms_sha256=sha256(histograms), overwrite=overwrite)
        )
    click.echo(summary(found, content))
    click.echo(f"wrote {output}{{.json,.csv,.png,.pdf}}")


def follow(
    content: HistFile,
    card: AnalysisCard,
    region: str | None,
    bgo: str | None,
    e_min_gev: float | None = None,
    e_max_gev: float | None = None,
    *,
    allow_incomplete: bool,
) -> Stability:
    """The stability of a histogram file, by a card and options that go before it.

    Args:
        content: The file.
        card: Its sections.
        region: Default that of the file's card.
        bgo: Default the only one, ``new`` if there are several.
        e_min_gev: Default the card's.
        e_max_gev: Default the card's.
        allow_incomplete: Accept missing data files.

    Returns:
        The months.
    """
    return stability(
        content.hists,
        content.meta,
        region=region or default_region(content.meta),
        bgo=bgo,
        e_min_gev=card.stability.e_min_gev if e_min_gev is None else e_min_gev,
        e_max_gev=card.stability.e_max_gev if e_max_gev is None else e_max_gev,
        efficiency_correction=card.flux.efficiency_correction,
        allow_incomplete=allow_incomplete,
    )


def write(
    found: Stability, content: HistFile, stem: Path, *, histograms_sha256: str, overwrite: bool
) -> list[Path]:
    """Write table, tests and figure.

    Args:
        found: The months.
        content: The file that they are of.
        stem: Path without suffix.
        histograms_sha256: Its hash.
        overwrite: Replace files.

    Returns:
        The paths.
    """
    meta, synthetic = content.meta, bool(content.meta.get("synthetic"))
    mark = partial_text(meta)
    label = ", ".join([SYNTHETIC_LABEL] * synthetic + [mark] * bool(mark))
    head = {
        "program": program(),
        "synthetic": synthetic,
        "injected": meta.get("injected") or {},
        "partial": partial(meta),
        "period": meta.get("period"),
        "histograms_sha256": histograms_sha256,
    }
    json_path, csv_path = (stem.with_name(stem.name + s) for s in (".json", ".csv"))
    paths = [
        write_text(json_path, stability_json(found, head), overwrite=overwrite),
        write_text(csv_path, stability_table(found, label), overwrite=overwrite),
    ]
    with marked(mark):
        return paths + plot_stability(found, stem, synthetic=synthetic, overwrite=overwrite)


def summary(found: Stability, content: HistFile) -> str:
    """The tests as text."""
    lines = ["SYNTHETIC data, not data of the experiment"] * bool(content.meta.get("synthetic"))
    lines += partial_line(content.meta)
    notes = found.notes
    lines.append(
        f"{notes['region']}, {notes['e_min_gev']:.1f}-{notes['e_max_gev']:.1f} GeV, {len(found.months)} months from "
        f"{found.months[0]} to {found.months[-1]}, {found.above.sum():.0f} events above the cut"
    )
    tested = {
        "rate above the cut": found.rate.test,
        "rate of the control region": found.control_rate.test,
        "efficiency, all cuts": found.efficiency.test,
        **{f"efficiency, {name}": test for name, test in found.cuts.items()},
        "flux": found.flux.test,
    }
    for name, test in tested.items():
        if test is not None:
            how = " (p from pseudo-experiments)" if test.p_from == "toys" else ""
            lines.append(f"{name:35s} mean {test.mean:.4g}; {constancy_text(test)}{how}")
    if len(found.months) == 1:
        lines.append("one month only: nothing to compare in time")
    if notes["events_of_no_month"] or notes["livetime_of_no_month_s"]:
        lines.append(
            f"WARNING: {notes['events_of_no_month']:.0f} selected events and {notes['livetime_of_no_month_s']:.0f} s of "
            "livetime belong to no month: the start of their runs, or the run of the events, is not known"
        )
    return "\n".join(lines)
