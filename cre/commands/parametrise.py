"""``cre parametrise``: score templates as analytic shapes that are smooth in energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from analysis.histfile import load
from analysis.plots.shapes import plot_parameters, plot_shapes
from analysis.plots.style import marked
from analysis.selection import Edge, project
from analysis.shapes.file import write_parametrisation
from analysis.shapes.options import options_for, options_from
from analysis.shapes.parametrisation import Parametrisation, bin_fits, parametrise
from analysis.templates import Template, template
from analysis.toys.model import toy_model, write_toy_model
from analysis.usable import partial_text
from cre.provenance import record, sha256
from processors.exceptions import CreError


@click.command("parametrise")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file to write."
)
@click.option("--region", type=click.Choice(["fiducial", "topfiducial"]), default="fiducial")
@click.option(
    "--edge", type=click.Choice(["on", "off"]), default="on", show_default=True, help="Edge cut."
)
@click.option("--bgo", help="BGO reconstruction; default the only one, 'new' if there are several.")
@click.option("--score", help="A further score of the file; default the card's.")
@click.option(
    "--options", type=click.Path(path_type=Path), help="YAML: forms, knots; see docs/formats.md."
)
@click.option("--toy-model", type=click.Path(path_type=Path), help="Also write a toy model here.")
@click.option("--source", help="How the simulation was made, for the head of the toy model.")
@click.option("--overwrite", is_flag=True, help="Replace files.")
def command(
    histograms: Path,
    output: Path,
    region: str,
    edge: Edge,
    bgo: str | None,
    score: str | None,
    options: Path | None,
    toy_model: Path | None,
    source: str | None,
    overwrite: bool,
) -> None:
    """Fit analytic shapes to the electron and proton templates of HISTOGRAMS, with figures."""
    figures = [
        output.with_name(f"{output.stem}_{kind}{part}.png")
        for kind in ("electron", "proton")
        for part in ("", "_parameters")
    ]
    _check_free([output, *figures, *([toy_model] if toy_model else [])], overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"file": histograms, "output": output, "region": region, "edge": edge}
    arguments |= {"bgo": bgo, "score": score, "options": options, "toy_model": toy_model}
    with record(
        output.with_name(output.stem + ".provenance.json"), "parametrise", arguments
    ) as entry:
        content = load(histograms)
        entry.read(histograms)
        hists, meta = project(content.hists, content.meta, edge=edge, bgo=bgo, score=score)
        name = str(meta["score"]["name"])
        chosen = options_for(name)
        if options is not None:
            chosen = options_from(_yaml(options), chosen)
            entry.read(options)
        templates = {k: template(hists["score"], k, region) for k in ("electron", "proton")}
        synthetic = bool(meta.get("synthetic"))
        keep = {"synthetic": synthetic, "toy": meta.get("toy", False), "edge_cut": edge}
        keep |= {"bgo_reconstruction": meta["bgo_reconstruction"], "program": meta.get("program")}
        result = parametrise(
            templates["electron"],
            templates["proton"],
            chosen,
            score=name,
            meta={**keep, "histograms_sha256": sha256(histograms)},
        )
        entry.wrote([write_parametrisation(result, output, overwrite=overwrite)])
        if toy_model is not None:
            _write_toy(hists, meta, result, toy_model, source, overwrite)
            entry.wrote([toy_model])
        common: dict[str, Any] = {"synthetic": synthetic, "overwrite": overwrite}
        label = str(hists["score"].axes["omega"].label)
        with marked(partial_text(meta)):
            for kind, part in templates.items():
                stem = output.with_name(f"{output.stem}_{kind}")
                cut = meta["score"].get("cut")
                entry.wrote(plot_shapes(part, result, stem, score_label=label, cut=cut, **common))
                single = bin_fits(part, chosen[kind])
                parameters = stem.with_name(f"{stem.name}_parameters")
                entry.wrote(plot_parameters(part, result, single, parameters, **common))
    for part in templates.values():
        click.echo(_summary(part, result, meta["score"].get("cut")))
    click.echo(f"wrote {output}")


def _check_free(paths: list[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another name or give --overwrite"
            raise FileExistsError(msg)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as err:
        msg = f"{path}: not a YAML file ({err})"
        raise CreError(msg) from err


def _write_toy(
    hists: Any,
    meta: dict[str, Any],
    result: Parametrisation,
    path: Path,
    source: str | None,
    overwrite: bool,
) -> None:
    head = {"synthetic": bool(meta.get("synthetic")), "source": source or ""}
    head |= {"generated": meta.get("generated"), "program": meta.get("program")}
    model = toy_model(hists, meta, result, name=path.stem, source=head)
    write_toy_model(model, path, overwrite=overwrite)


def _summary(part: Template, result: Parametrisation, cut: float | None) -> str:
    """One line per energy bin: effective events, χ², share above the cut in simulation and shape."""
    smooth = result.smooth(part.kind)
    good = smooth.goodness
    shape = result.template(part.kind, part.energy_edges, part.omega_edges)
    lines = [f"{part.kind}, {part.region}, score {result.score}:"]
    if result.meta.get("synthetic"):
        lines[0] += " SYNTHETIC simulation"
    above = None if cut is None else (part.above(cut), shape.above(cut).value)
    total = np.where(part.total().value > 0, part.total().value, np.nan)
    for i, used in enumerate(good.used):
        line = f"{part.energy_edges[i]:9.1f}-{part.energy_edges[i + 1]:9.1f} GeV {good.effective[i]:7.0f}"
        if not used:
            lines.append(f"{line} too few effective events, left out")
            continue
        line += f" χ²/ndf {good.chi2[i]:5.0f}/{good.ndf[i]:<4.0f}"
        if above is not None:
            share = above[0].value[i] / total[i]
            error = np.sqrt(above[0].variance[i]) / total[i]
            line += f" above the cut {share:.5f} ± {error:.5f}, shape {above[1][i]:.5f}"
        lines.append(line)
    lines.append(
        f"{smooth.coefficients.size} coefficients, χ²/ndf {np.nansum(good.chi2):.0f}/"
        f"{good.ndf.sum():.0f}; covariance times {smooth.scale:.2f}"
    )
    return "\n".join(lines)
