"""Published cosmic-ray spectra with their sources, one CSV file each beside this module.

Every file starts with comment lines that name the paper, the public source of the numbers and what
they were checked against. Flux in GeV⁻¹ m⁻² s⁻¹ sr⁻¹, energies in GeV, errors absolute.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from analysis.energy import lafferty_wyatt
from analysis.exceptions import UnknownSpectrumError

__all__ = ["PublishedSpectrum", "electron_positron_sets", "load", "names"]

_EXPERIMENTS = {
    "ams02": "AMS-02",
    "calet": "CALET",
    "dampe": "DAMPE",
    "fermilat": "Fermi-LAT",
    "hess": "H.E.S.S.",
    "veritas": "VERITAS",
}
_SPECIES = ("electron_positron", "electron", "positron", "proton")
_FIXED = ("E_lo", "E_hi", "E_mean", "flux", "stat_lo", "stat_hi", "sys_lo", "sys_hi")
_FLUX = "GeV-1 m-2 s-1 sr-1"
_UNITS = {
    "E_mean_err": "GeV",
    "acceptance_m2sr": "m2 sr",
    "acceptance_err": "m2 sr",
    "sys_ana": _FLUX,
    "sys_had": _FLUX,
}


@dataclass(frozen=True, eq=False)
class PublishedSpectrum:
    """A published spectrum; arrays of shape (n,), read-only, NaN where the source gives nothing.

    Attributes:
        name: file name without suffix.
        experiment: as the collaboration writes itself.
        year: of publication.
        species: ``electron_positron``, ``electron``, ``positron`` or ``proton``.
        variant: what distinguishes several sets of one paper, e.g. ``he``, ``partial``; or empty.
        source: the comment lines of the file: paper, origin of the numbers, cross-checks.
        e_min: lower bin edge, GeV.
        e_max: upper bin edge, GeV.
        e_mean: printed mean energy, GeV.
        dnde: flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        stat_n: statistical error downwards, absolute.
        stat_p: statistical error upwards.
        sys_n: systematic error downwards.
        sys_p: systematic error upwards.
        extra: other columns of the file by name (counts, acceptance, ...).
        units: unit of every array, by field or extra-column name; empty for pure numbers.
    """

    name: str
    experiment: str
    year: int
    species: str
    variant: str
    source: str
    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    e_mean: NDArray[np.float64]
    dnde: NDArray[np.float64]
    stat_n: NDArray[np.float64]
    stat_p: NDArray[np.float64]
    sys_n: NDArray[np.float64]
    sys_p: NDArray[np.float64]
    extra: dict[str, NDArray[np.float64]]
    units: dict[str, str]

    @property
    def label(self) -> str:
        """Short name for a legend, e.g. ``Fermi-LAT 2017 (he)``."""
        return f"{self.experiment} {self.year}" + (f" ({self.variant})" if self.variant else "")

    def e_ref(self, index: float = -3.0) -> NDArray[np.float64]:
        """Return the printed mean energy, else the Lafferty-Wyatt point of the bin.

        Args:
            index: spectral index of the Lafferty-Wyatt rule.

        Returns:
            (n,) GeV.
        """
        energy = self.e_mean.copy()
        missing = np.isnan(energy)
        if np.any(missing):
            energy[missing] = lafferty_wyatt(self.e_min[missing], self.e_max[missing], index)
        return energy

    def total_error(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return statistical and systematic errors in quadrature, down and up; missing ones as 0.

        Returns:
            Two (n,) arrays, absolute.
        """
        return (
            np.hypot(np.nan_to_num(self.stat_n), np.nan_to_num(self.sys_n)),
            np.hypot(np.nan_to_num(self.stat_p), np.nan_to_num(self.sys_p)),
        )


def names() -> tuple[str, ...]:
    """Return the names of all shipped spectra, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".csv") for name in files if name.endswith(".csv")))


def electron_positron_sets() -> tuple[str, ...]:
    """Return the names of the spectra of electrons plus positrons.

    ``ams02_2019_electron_positron`` is the sum of two separate AMS-02 measurements, as its source
    text says; the others are measurements of the sum.
    """
    return tuple(name for name in names() if _identity(name)[2] == "electron_positron")


@cache
def load(name: str) -> PublishedSpectrum:
    """Load one spectrum.

    Args:
        name: one of :func:`names`.

    Returns:
        The spectrum; the same object on every call.

    Raises:
        UnknownSpectrumError: no such spectrum.
    """
    if name not in names():
        msg = f"no published spectrum {name!r}; there are: {', '.join(names())}"
        raise UnknownSpectrumError(msg)
    text = resources.files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    lines = text.splitlines()
    source = "\n".join(line[1:].strip() for line in lines if line.startswith("#"))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns = {key: _numbers([row[key] for row in rows]) for key in rows[0]}
    e_min, e_max, e_mean, dnde, stat_n, stat_p, sys_n, sys_p = (columns[key] for key in _FIXED)
    extra = {key: values for key, values in columns.items() if key not in _FIXED}
    experiment, year, species, variant = _identity(name)
    return PublishedSpectrum(
        name=name,
        experiment=experiment,
        year=year,
        species=species,
        variant=variant,
        source=source,
        e_min=e_min,
        e_max=e_max,
        e_mean=e_mean,
        dnde=dnde,
        stat_n=stat_n,
        stat_p=stat_p,
        sys_n=sys_n,
        sys_p=sys_p,
        extra=extra,
        units={
            **dict.fromkeys(("e_min", "e_max", "e_mean"), "GeV"),
            **dict.fromkeys(("dnde", "stat_n", "stat_p", "sys_n", "sys_p"), _FLUX),
            **{key: _UNITS.get(key, "") for key in extra},
        },
    )


def _identity(name: str) -> tuple[str, int, str, str]:
    """Take experiment, year, species and variant out of ``<experiment>_<year>_<...>``."""
    experiment, year, rest = name.split("_", 2)
    species = next(kind for kind in _SPECIES if kind in rest)
    variant = rest.replace(species, "").strip("_")
    return _EXPERIMENTS[experiment], int(year), species, variant


def _numbers(fields: list[str]) -> NDArray[np.float64]:
    """Return a read-only array, NaN for empty fields."""
    array = np.array([float(text) if text else np.nan for text in fields])
    array.flags.writeable = False
    return array
