"""What the data of 2015 to 2025 would cost, from measured costs per event and stated assumptions."""

from __future__ import annotations

from typing import Any

__all__ = ["ASSUMPTIONS", "estimate"]

#: Days from 2015-12 to 2025-09 and the livetime in them; both from the analysis that the project serves.
DAYS, LIVETIME_S = 3563, 236_375_620.0
#: Dead time per recorded event and its share of all time: recalled, not read in a source.
DEAD_S, DEAD_SHARE = 3.07e-3, 0.18

_RECORDED = (
    f"all recorded events: {DEAD_SHARE:.0%} of the time dead at {DEAD_S * 1e3:.2f} ms an event (recalled, not read in "
    f"a source) are {DEAD_SHARE / DEAD_S:.1f} recorded events a second; their cost is that of the flight-like "
    "mixture, an upper limit: most have less energy and fewer fired bars"
)
_SKIMS = (
    "events of 10 GeV or more, and skims of 100 GeV or more: the rates of the synthetic samples in their livetime; "
    "there are no nuclei but protons and no geomagnetic cut-off in them (an inference, good to a factor of 2)"
)
_WALL = (
    "wall time: core hours over slots, but not below the time in which one client can take in the chunks; "
    "no queueing, and storage that serves all slots at once"
)
_EXPOSURE = f"exposure: {DAYS} days, livetime {LIVETIME_S:.4g} s (given with the analysis)"
ASSUMPTIONS = (_EXPOSURE, _RECORDED, _SKIMS, _WALL)


def estimate(
    mixtures: dict[str, dict[str, Any]], client_ms: float, chunk_size: int
) -> list[dict[str, Any]]:
    """Events, core hours and wall time of the full data.

    Args:
        mixtures: ``flight`` and ``skim``, each with ``us_per_event`` of a run and ``rate_hz`` of livetime.
        client_ms: Time of client and scheduler per chunk.
        chunk_size: Events per chunk.

    Returns:
        Rows with ``what``, ``events``, ``core_hours``, ``chunks`` and ``wall_min`` per number of slots.
    """
    flight, skim = mixtures["flight"], mixtures["skim"]
    rows = []
    for what, events, cost in (
        ("all recorded events", DEAD_SHARE / DEAD_S * DAYS * 86_400, flight["us_per_event"]),
        ("10 GeV or more", flight["rate_hz"] * LIVETIME_S, flight["us_per_event"]),
        ("skim of 100 GeV or more", skim["rate_hz"] * LIVETIME_S, skim["us_per_event"]),
    ):
        seconds, number = events * cost * 1e-6, events / chunk_size
        rows.append(
            {
                "what": what,
                "events": events,
                "chunks": number,
                "core_hours": seconds / 3600,
                "wall_min": {
                    str(slots): max(seconds / slots, number * client_ms * 1e-3) / 60
                    for slots in (100, 1000)
                },
            }
        )
    return rows
