"""Time of the template fit in all 41 energy bins, and of a pseudo-experiment, on one core and on several.

    OMP_NUM_THREADS=1 python -m benchmarks.fit [--toys 40] [--workers 2]

Ten years of data of the shipped toy model with a shifted proton template; data and simulation fluctuate. Times
of fits are processor time of this process, the best of rounds taken in turns; that of the pseudo-experiments
(drawing, fit, background and flux) is wall-clock time on `--workers` processes, with what 1000 of them take.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from analysis.closure import closure
from analysis.templatefit import FitSettings, fit_templates
from analysis.toys.draw import draw_data, draw_simulation, expectation, read_toy_model

LIVETIME_S = 236_375_620.0
SHIFT = (0.8, 0.4)
SETTINGS = {
    "simultaneous, linear shift": FitSettings(),
    "simultaneous, order chosen": FitSettings(shift_order="auto"),
    "simultaneous, with width": FitSettings(width_order=0),
    "simultaneous, width and electron shift": FitSettings(width_order=1, electron_order=1),
    "per energy bin": FitSettings(method="per_bin"),
    "per energy bin, then smooth": FitSettings(method="smooth"),
    "without a shift": FitSettings(shift_order=None),
}


def fits(rounds: int) -> dict[str, tuple[float, int]]:
    """Shortest processor time of each kind of fit, s, and its energy bins with a result."""
    model = read_toy_model("synthetic_omega")
    truth = expectation(model, model.target_flux_integral["electron"], LIVETIME_S, shift=SHIFT)
    rng = np.random.default_rng(1)
    data = draw_data(truth, rng)
    electrons, protons = draw_simulation(
        model, rng, electron_events=100_000.0, proton_events=400_000.0, proton_bulk_weight=10.0
    )
    out = dict.fromkeys(SETTINGS, (np.inf, 0))
    for round_ in range(rounds + 1):  # the first round warms up
        for name, settings in SETTINGS.items():
            start = time.process_time()
            result = fit_templates(data, electrons, protons, settings, cut=5.0)
            elapsed = time.process_time() - start
            if round_:
                out[name] = min(out[name], (elapsed, int(result.success.sum())))
    return out


def part(number: int, seed: int) -> int:
    """Some pseudo-experiments."""
    model = read_toy_model("synthetic_omega")
    return closure(model, number, seed, livetime_s=LIVETIME_S, shift=SHIFT).number


def toys(number: int, workers: int) -> float:
    """Seconds per pseudo-experiment."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(part, [1] * workers, range(workers)))  # imports and caches
        start = time.perf_counter()
        done = sum(pool.map(part, [number] * workers, range(workers)))
        return (time.perf_counter() - start) / done


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time of the template fit.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toys", type=int, default=40, help="pseudo-experiments per process")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("fit of 41 energy bins, one core")  # noqa: T201
    for name, (seconds, good) in fits(options.rounds).items():
        print(f"{name:>40}: {seconds:6.3f} s, {good} bins")  # noqa: T201
    for workers in sorted({1, options.workers}):
        seconds = toys(options.toys, workers)
        print(  # noqa: T201
            f"pseudo-experiments on {workers} core(s): {seconds:.3f} s each, "
            f"1000 in {1000 * seconds / 60:.1f} min"
        )


if __name__ == "__main__":
    main()
