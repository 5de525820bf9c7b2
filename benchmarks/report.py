"""The table and the figures of a benchmark run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker

mpl.use("agg")
import matplotlib.pyplot as plt

from benchmarks.exposure import ASSUMPTIONS
from benchmarks.stages import STAGES

__all__ = ["document", "draw", "goals", "machine", "table"]

Results = Mapping[str, Any]
LABEL = "DAMPE-like synthetic data"


def machine() -> str:
    """The class of machine: processor, cores, memory; no name."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB, Python {platform.python_version()}"


def goals(results: Results) -> list[tuple[str, str, str, bool]]:
    """Rows of what was to be reached: text, goal, measured, reached. Parts that were not run are left out."""
    rows: list[tuple[str, str, str, bool]] = []

    def row(text: str, goal: str, value: float, form: str, *, good: bool) -> None:
        rows.append((text, goal, form.format(value), good))

    for name, one in results.get("floor", {}).items():
        text = f"cost per event over its floor, {name}"
        row(text, "≤ 1.15", one["ratio"], "{:.3f}", good=one["ratio"] <= 1.15)
    if "users" in results:
        for name, goal in (
            ("coffea, all events scored", 2),
            ("uproot + PyTorch, all events scored", 5),
        ):
            value = results["users"]["times"][name]
            row(f"events/s over: {name}", f"≥ {goal}", value, "{:.1f}×", good=value >= goal)
    if "workers" in results:
        value = results["workers"]["speed_up"]
        machine = results["workers"]["machine_speed_up"]
        rounds = results["workers"]["speed_ups"]
        form = f"{{:.2f}}× [{min(rounds):.2f}, {max(rounds):.2f}] (the machine without the client: {machine:.2f}×)"
        row("one → two workers", "≥ 1.85", value, form, good=value >= 1.85)
    if "events" in results:
        one = results["events"]
        low, high = (100 * x for x in one["change_interval"])
        text = f"time per event, change over {one['events']:.2g} events"
        end = 100 * (one["last_tenth_over_first"] - 1)
        form = f"{{:+.1f}} % [{low:+.1f}, {high:+.1f}], last tenth to first {end:+.1f} %"
        row(text, "≤ 5 %", 100 * one["change"], form, good=max(abs(low), abs(high), abs(end)) <= 5)
        row("memory with all networks, peak", "≤ 1200 MB", one["peak_mb"], "{:.0f} MB",
            good=one["peak_mb"] <= 1200)  # fmt: skip
        slope = one["slope_mb_per_1000_chunks"]
        row("memory, slope over the second half", "flat (≤ 50 MB per 1000 chunks)", slope,
            "{:.1f} MB per 1000 chunks", good=slope <= 50)  # fmt: skip
    if "chunks" in results:
        one = results["chunks"]
        text = f"client's memory, {one['chunks']} chunks"
        row(text, "< 1000 MB", one["peak_mb"], "{:.0f} MB", good=one["peak_mb"] < 1000)
        row("scheduler and client, per chunk", "", one["client_ms"], "{:.1f} ms", good=True)
    return rows


def table(results: Results) -> str:
    """The results as Markdown."""
    lines = [f"Machine: {results['machine']}. All events are synthetic.", ""]
    lines += ["| what | goal | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {text} | {goal} | {value} | {'reached' if good else '**not reached**' if goal else ''} |"
        for text, goal, value, good in goals(results)
    ]
    if "floor" in results:
        lines += ["", "| mixture | events | scored | run, µs/event | reading, awkward "]
        lines[-1] += (
            "| reading, NumPy | networks | ratio | of the shortest times | to uproot's defaults |"
        )
        lines.append("|---" * 10 + "|")
        for name, one in results["floor"].items():
            us = one["us_per_event"]
            lines.append(
                f"| {name}: {one['text']} | {one['events']} | {one['scored'] / one['events']:.2%} "
                f"| {us['run']:.2f} | {us['read']:.2f} | {us['read_numpy']:.2f} | {us['networks']:.2f} "
                f"| {one['ratio']:.3f} | {one['ratio_shortest']:.3f} | {one['ratio_default']:.3f} |"
            )
        passing = results["floor"]["flight"]["passing"]
        shares = ", ".join(
            f"{cut} {share:.2%}" for cut, share in passing.items() if cut != "scored"
        )
        lines += ["", f"Flight-like events that are left after each cut: {shares}."]
    if "users" in results:
        lines += ["", "| program | events/s | cre run is faster by |", "|---|---|---|"]
        lines += [
            f"| {n} | {rate:,.0f} | {results['users']['times'][n]:.1f} |"
            for n, rate in results["users"]["per_s"].items()
        ]
    if "estimate" in results:
        lines += ["", "| data of 2015 to 2025 | events | core hours | 100 slots | 1000 slots |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| {r['what']} | {r['events']:.2g} | {r['core_hours']:.1f} | {r['wall_min']['100']:.0f} min "
            f"| {r['wall_min']['1000']:.0f} min |"
            for r in results["estimate"]
        ]
        lines += ["", *(f"* {text}" for text in ASSUMPTIONS)]
    return "\n".join(lines) + "\n"


#: Between these lines a document holds what was measured last.
BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"


def document(text: str, figures: list[Path], path: Path) -> None:
    """Put the table into a document, and the figures beside it.

    Raises:
        ValueError: If the document has no place for them.
    """
    content = path.read_text("utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        msg = f"{path} has no lines {BEGIN!r} and {END!r}"
        raise ValueError(msg)
    lines = [text]
    for figure in figures:
        new = path.with_name(f"performance_{figure.name}")
        new.write_bytes(figure.read_bytes())
        lines.append(f"![{figure.stem}]({new.name})\n")
    path.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


def draw(results: Results, folder: Path) -> list[Path]:
    """The figures of the parts that were run."""
    out = []
    if "stages" in results:
        out.append(_stages(results["stages"], folder / "stages.png"))
    if "events" in results:
        out.append(_memory(results["events"], folder / "events.png"))
    if "chunks" in results:
        out.append(_client(results["chunks"], folder / "client.png"))
    return out


def _stages(stages: Results, path: Path) -> Path:
    """Time per event as stacked bars, as a share of the whole; the whole stands beside each bar."""
    found = {n for one in stages.values() for n in one}
    networks = sorted(n for n in found if n.startswith("network"))
    order = [*STAGES[:4], *networks, *STAGES[4:]]
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    figure, ax = plt.subplots(figsize=(8.5, 1.6 + 0.75 * len(stages)), layout="constrained")
    for y, one in enumerate(stages.values()):
        whole, left = sum(one.values()), 0.0
        for i, stage in enumerate(order):
            width = one.get(stage, 0.0) / whole
            ax.barh(y, width, left=left, color=colours[i], label=stage if y == 0 else None)
            if width > 0.045:
                ax.text(left + width / 2, y, f"{width:.0%}", ha="center", va="center", fontsize=8)
            left += width
        ax.text(1.01, y, f"{whole:.1f} µs/event", va="center", fontsize=9)
    ax.set_yticks(range(len(stages)), list(stages))
    ax.set_xlim(0, 1.18)
    ax.set_xlabel("share of the processor time of a chunk, one core")
    ax.set_title(LABEL, loc="right", fontsize=9, color="#A3123A")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return _save(figure, path)


def _memory(one: Results, path: Path) -> Path:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    events = [(i + 1) * one["events"] / len(one["rss_mb"]) for i in range(len(one["rss_mb"]))]
    left.plot(events, one["chunk_us"], ".", ms=4, color="#AAAAAA", label="as measured")
    label = "at the median speed of the machine"
    left.plot(events, one["relative_us"], ".", ms=4, color="#0072B2", label=label)
    left.legend(loc="lower left", fontsize=8, frameon=False)
    left.set(
        xscale="log", ylim=(0, None), xlabel="events read", ylabel="processor time per event (µs)"
    )
    right.plot(events, one["rss_mb"], color="#D55E00", label="of the process")
    right.plot(events, one["in_use_mb"], color="#009E73", ls="-.", label="asked for and not freed")
    right.legend(loc="lower right", fontsize=8, frameon=False)
    right.axhline(1200, color="#555555", ls="--", lw=1)
    right.text(events[0], 1210, "goal", fontsize=8, color="#555555")
    right.set(xscale="log", ylim=(0, 1400), xlabel="events read", ylabel="memory (MB)")
    right.set_title(LABEL, loc="right", fontsize=9, color="#A3123A")
    for ax in (left, right):
        ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    return _save(figure, path)


def _client(one: Results, path: Path) -> Path:
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    steps = [i * one["chunks"] / (len(one["rss_mb"]) - 1) for i in range(len(one["rss_mb"]))]
    ax.plot(steps, one["rss_mb"], color="#D55E00")
    ax.axhline(1000, color="#555555", ls="--", lw=1)
    ax.set(ylim=(0, 1100), xlabel="chunks folded", ylabel="client and scheduler, memory (MB)")
    ax.set_title(LABEL, loc="right", fontsize=9, color="#A3123A")
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
