"""`python -m benchmarks`: measure, print a table, write it with the numbers and the figures.

    OMP_NUM_THREADS=1 python -m benchmarks [--scale 1] [--output benchmarks/out] [PART ...]

Parts: floor, stages, users, workers, events, chunks; all without any. Each runs in a process of its own and
leaves `PART.json`; table and figures are made from all that are there, with `--collect` without measuring
anything, and with `--document docs/performance.md` in the documentation too. The scale (or BENCH_SCALE) shortens
the long parts; events below 10^7 then say so. `users` needs PyTorch (extra train).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import exposure, floor, report, scaling, stages, users
from benchmarks.samples import MIXTURES, chunks, make, passing, shipped
from processors.manifest import FileEntry
from processors.memory import read_chunks_only
from processors.run import run_chunk

ROUNDS = 9


def say(text: str) -> None:
    """Print."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _first(entry: FileEntry, *, size: int | None = None) -> tuple[Any, Any]:
    config, items = chunks([entry], shipped("omega"), size=size)
    return items[0], config


def _floor(folder: Path, _scale: float) -> Any:
    out = {}
    for name in MIXTURES:
        entry = make(name, folder)
        item, config = _first(entry)
        out[name] = floor.against_floor(item, config, ROUNDS)
        out[name] |= {
            "text": MIXTURES[name].text,
            "passing": passing(entry, run_chunk(item, config)),
            "rate_hz": entry.entries / MIXTURES[name].times / entry.livetime_s
            if entry.kind == "data"
            else None,
        }
    return out


def _stages(folder: Path, _scale: float) -> Any:
    return {
        name: stages.where_the_time_goes(*_first(make(name, folder)), rounds=ROUNDS)
        for name in MIXTURES
    }


def _users(folder: Path, _scale: float) -> Any:
    entry = make("flight", folder)
    part, _ = _first(entry, size=20_000)
    whole, config = _first(entry)
    return users.against_users(part, whole, config, 3)


def _workers(folder: Path, scale: float) -> Any:
    number = max(4, round(40 * scale))
    return scaling.workers(make("flight", folder), folder, number, 5 if scale >= 1 else 1)


def _events(folder: Path, scale: float) -> Any:
    entry = make("flight", folder)
    number = max(12, round(scale * 1e7 / entry.entries))
    return scaling.events_to_millions(entry, folder, number, make("skim", folder))


def _chunks(folder: Path, scale: float) -> Any:
    return scaling.many_chunks(make("flight", folder), max(200, round(10_000 * scale)))


PARTS: dict[str, Callable[[Path, float], Any]] = {
    "floor": _floor,
    "stages": _stages,
    "users": _users,
    "workers": _workers,
    "events": _events,
    "chunks": _chunks,
}


def _collect(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {"machine": report.machine()}
    for part in PARTS:
        if (path := folder / f"{part}.json").exists():
            results[part] = json.loads(path.read_text("utf-8"))
    if "floor" in results and "chunks" in results:
        found = {
            name: {"us_per_event": one["us_per_event"]["run"], "rate_hz": one["rate_hz"]}
            for name, one in results["floor"].items()
        }
        size = shipped("omega").chunk_size
        results["estimate"] = exposure.estimate(found, results["chunks"]["client_ms"], size)
    return results


def main() -> None:
    """Run parts, or one of them in this process."""
    parser = argparse.ArgumentParser(description="Benchmarks of the program.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--scale", type=float, default=float(os.environ.get("BENCH_SCALE", "1")))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out"))
    parser.add_argument("--here", action="store_true", help="one part, in this process")
    parser.add_argument("--collect", action="store_true", help="measure nothing, only report")
    parser.add_argument("--document", type=Path, help="write the numbers and figures there too")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    data = options.output / "data"
    data.mkdir(parents=True, exist_ok=True)
    if options.here:
        (part,) = options.parts
        read_chunks_only()
        result = PARTS[part](data, options.scale)
        path = options.output / f"{part}.json"
        path.write_text(json.dumps(result, indent=1), "utf-8")
        return
    for name in () if options.collect else MIXTURES:
        make(name, data)
    for part in () if options.collect else options.parts or PARTS:
        start = time.monotonic()
        words = [part, "--here", "--scale", str(options.scale), "--output", str(options.output)]
        subprocess.run([sys.executable, "-m", "benchmarks", *words], check=True)  # noqa: S603
        say(f"{part}: {time.monotonic() - start:.0f} s")
    results = _collect(options.output)
    text = report.table(results)
    (options.output / "table.md").write_text(text, "utf-8")
    (options.output / "results.json").write_text(json.dumps(results, indent=1), "utf-8")
    figures = report.draw(results, options.output)
    if options.document:
        report.document(text, figures, options.document)
    say(text)


if __name__ == "__main__":
    main()
