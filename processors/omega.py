"""Omega: the scores of several networks combined into one number per event, electron high.

The parameters are fitted on simulated events (``models.combination``, ``cre combine``) and read from a
JSON file that names the networks by their hashes: parameters fitted for other networks are refused.
Three strategies:

``logistic``
    b(E) + sum_k w_k(E) x_k with the logits x_k: the logit of a logistic regression.
``standardised``
    Mean over k of (x_k - peak_k(E)) / width_k(E), peak and width of electrons.
``likelihood_ratio``
    ln(p_e/p_p) of two of the networks, read off a grid (bilinear, constant beyond its borders).

Every coefficient is given at nodes of the energy E and is linear in log10 E between them, constant
outside, so that omega has no steps at the borders of the ranges in which it was fitted.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from processors.exceptions import ModelError, sentences

__all__ = [
    "STRATEGIES",
    "LikelihoodRatio",
    "Logistic",
    "Omega",
    "Standardised",
    "Strategy",
    "combine",
    "read_omega",
    "write_omega",
]

Values = npt.NDArray[np.floating[Any]]
FloatArray = npt.NDArray[np.float64]
Strategy = Literal["logistic", "standardised", "likelihood_ratio"]

STRATEGIES: tuple[str, ...] = get_args(Strategy)
_LOWEST_GEV = 1e-3


class _Nodes(BaseModel):
    """Something given at energy nodes.

    Attributes:
        energies_gev: Ascending nodes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    energies_gev: tuple[float, ...] = Field(min_length=1)

    @field_validator("energies_gev")
    @classmethod
    def _ascending(cls, nodes: tuple[float, ...]) -> tuple[float, ...]:
        if nodes[0] <= 0 or any(a >= b for a, b in itertools.pairwise(nodes)):
            msg = f"energies_gev {list(nodes)} must be positive and ascend"
            raise ValueError(msg)
        return nodes

    def at(self, values: Sequence[float], e_corr: Values) -> FloatArray:
        """Values given at the nodes, linear in log10 E between them, constant outside; shape (n,)."""
        log_e = np.log10(np.maximum(np.asarray(e_corr, np.float64), _LOWEST_GEV))
        return np.interp(log_e, np.log10(self.energies_gev), np.asarray(values, np.float64))

    def _check_lengths(self, columns: Mapping[str, Sequence[float]], what: str) -> None:
        for name, values in columns.items():
            if len(values) != len(self.energies_gev):
                msg = f"{what} {name!r} needs {len(self.energies_gev)} values, one per energy node"
                raise ValueError(msg)


class Logistic(_Nodes):
    """Coefficients of the logistic combination.

    Attributes:
        bias: One per node.
        weights: Network to its weight per node.
    """

    bias: tuple[float, ...]
    weights: dict[str, tuple[float, ...]] = Field(min_length=1)

    @model_validator(mode="after")
    def _shaped(self) -> Logistic:
        self._check_lengths({"bias": self.bias}, "the coefficient")
        self._check_lengths(self.weights, "the weight of")
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that it needs."""
        return tuple(self.weights)

    def __call__(self, logits: Mapping[str, Values], e_corr: Values) -> FloatArray:
        """Omega, shape (n,)."""
        total = self.at(self.bias, e_corr)
        for name, weight in self.weights.items():
            total += self.at(weight, e_corr) * logits[name]
        return total


class Standardised(_Nodes):
    """Position of the electron peak.

    Attributes:
        peak: Network to the median of its logits of electrons per node.
        width: Network to half the central 68 % interval per node.
    """

    peak: dict[str, tuple[float, ...]] = Field(min_length=1)
    width: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _shaped(self) -> Standardised:
        if set(self.peak) != set(self.width):
            msg = "peak and width must be of the same networks"
            raise ValueError(msg)
        self._check_lengths(self.peak, "the peak of")
        self._check_lengths(self.width, "the width of")
        if any(w <= 0 for widths in self.width.values() for w in widths):
            msg = "widths must be positive"
            raise ValueError(msg)
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that it needs."""
        return tuple(self.peak)

    def __call__(self, logits: Mapping[str, Values], e_corr: Values) -> FloatArray:
        """Omega, shape (n,)."""
        total = np.zeros(len(e_corr))
        for name in self.peak:
            distance = np.asarray(logits[name], np.float64) - self.at(self.peak[name], e_corr)
            total += distance / self.at(self.width[name], e_corr)
        return total / len(self.peak)


class LikelihoodRatio(_Nodes):
    """Grids of ln(p_e/p_p).

    Attributes:
        x: The network along the first axis of the grids.
        y: The network along the second.
        x_nodes: Equally spaced logits, per energy node.
        y_nodes: The same along y.
        grids: ln(p_e/p_p) at the nodes, per energy node; never falling along x or y.
    """

    x: str
    y: str
    x_nodes: tuple[tuple[float, ...], ...]
    y_nodes: tuple[tuple[float, ...], ...]
    grids: tuple[tuple[tuple[float, ...], ...], ...]

    @model_validator(mode="after")
    def _shaped(self) -> LikelihoodRatio:
        if self.x == self.y:
            msg = f"x and y are both {self.x!r}; they must differ"
            raise ValueError(msg)
        count = len(self.energies_gev)
        if not len(self.x_nodes) == len(self.y_nodes) == len(self.grids) == count:
            msg = f"x_nodes, y_nodes and grids need one entry for each of the {count} energy nodes"
            raise ValueError(msg)
        for x, y, grid in zip(self.x_nodes, self.y_nodes, self.grids, strict=True):
            if len(grid) != len(x) or any(len(row) != len(y) for row in grid):
                msg = "a grid needs one row per x node and one column per y node"
                raise ValueError(msg)
            for nodes in (x, y):
                step = np.diff(nodes)
                if len(nodes) < 2 or step[0] <= 0 or not np.allclose(step, step[0], rtol=1e-3):
                    msg = "the nodes of a grid must be equally spaced and ascend"
                    raise ValueError(msg)
            table = np.array(grid)
            if (np.diff(table, axis=0) < 0).any() or (np.diff(table, axis=1) < 0).any():
                msg = "a grid must not fall along x or y"
                raise ValueError(msg)
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that it needs."""
        return (self.x, self.y)

    def __call__(self, logits: Mapping[str, Values], e_corr: Values) -> FloatArray:
        """Omega, shape (n,)."""
        x, y = (np.asarray(logits[n], np.float64) for n in (self.x, self.y))
        total = np.zeros(len(x))
        unit = np.eye(len(self.energies_gev))
        for k, grid in enumerate(self.grids):
            share = self.at(unit[k].tolist(), e_corr)  # of this energy node
            rows = np.flatnonzero(share > 0)
            ratio = _bilinear(np.array(grid), self.x_nodes[k], self.y_nodes[k], x[rows], y[rows])
            total[rows] += share[rows] * ratio
        return np.where(np.isfinite(x + y) & np.isfinite(e_corr), total, np.nan)


def _bilinear(
    grid: FloatArray,
    x_nodes: Sequence[float],
    y_nodes: Sequence[float],
    x: FloatArray,
    y: FloatArray,
) -> FloatArray:
    """Values of an equally spaced grid at points, clamped to its borders; 0 for NaN points."""
    corner, part = [], []
    for nodes, values in ((x_nodes, x), (y_nodes, y)):
        scaled = (np.nan_to_num(values) - nodes[0]) / (nodes[-1] - nodes[0]) * (len(nodes) - 1)
        scaled = np.clip(scaled, 0.0, len(nodes) - 1)
        low = np.minimum(scaled.astype(np.intp), len(nodes) - 2)
        corner.append(low)
        part.append(scaled - low)
    (i, j), (u, v) = corner, part
    lower = grid[i, j] + v * (grid[i, j + 1] - grid[i, j])
    upper = grid[i + 1, j] + v * (grid[i + 1, j + 1] - grid[i + 1, j])
    return np.asarray(lower + u * (upper - lower))


class Omega(BaseModel):
    """The parameters of omega in one region.

    Attributes:
        format: Version of this format.
        region: Region whose events they were fitted on.
        members: Network to the sha256 of its ONNX files, in order of energy.
        synthetic: Whether they were fitted on synthetic events.
        fit: What they were fitted on: files with hashes, energy ranges, events; any plain content.
        logistic: Parameters of that strategy, if they were fitted.
        standardised: The same.
        likelihood_ratio: The same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    region: Literal["fiducial", "topfiducial"]
    members: dict[str, tuple[str, ...]]
    synthetic: bool
    fit: dict[str, Any] = {}
    logistic: Logistic | None = None
    standardised: Standardised | None = None
    likelihood_ratio: LikelihoodRatio | None = None

    @model_validator(mode="after")
    def _known_networks(self) -> Omega:
        for strategy in STRATEGIES:
            part = getattr(self, strategy)
            strangers = [] if part is None else sorted(set(part.networks) - set(self.members))
            if strangers:
                msg = f"{strategy} uses {strangers[0]!r}, which is not among the members"
                raise ValueError(msg)
        return self

    def networks(self, strategy: str) -> tuple[str, ...]:
        """Names of the networks that a strategy needs.

        Raises:
            ModelError: If the file has no parameters for it.
        """
        names: tuple[str, ...] = self.of(strategy).networks
        return names

    def of(self, strategy: str) -> Logistic | Standardised | LikelihoodRatio:
        """The parameters of a strategy.

        Raises:
            ModelError: If the file has none for it.
        """
        part = getattr(self, strategy) if strategy in STRATEGIES else None
        if part is None:
            has = [s for s in STRATEGIES if getattr(self, s) is not None]
            msg = (
                f"the omega parameters of the {self.region} region hold no strategy {strategy!r}; "
                f"they hold: {', '.join(has) or 'none'}"
            )
            raise ModelError(msg)
        return part  # type: ignore[no-any-return]

    def check_members(
        self, members: Mapping[str, Sequence[str]], strategy: str, where: str
    ) -> None:
        """Refuse parameters that were fitted for other networks than the card's.

        Args:
            members: Network to the hashes of its files, as the card has them for the region.
            strategy: The strategy that will be used.
            where: Name of the parameter file, for the message.

        Raises:
            ModelError: With the network.
        """
        for name in self.networks(strategy):
            if name not in members:
                msg = (
                    f"omega parameters {where!r} need the network {name!r}, which the card does not name for "
                    f"the {self.region} region (it names {', '.join(members) or 'none'}); add it, or fit "
                    "others with 'cre combine'"
                )
                raise ModelError(msg)
            if list(members[name]) != list(self.members[name]):
                msg = (
                    f"omega parameters {where!r} were fitted for other {name!r} files (sha256 "
                    f"{', '.join(h[:12] for h in self.members[name])}, the card's have "
                    f"{', '.join(h[:12] for h in members[name])}); fit them anew with 'cre combine'"
                )
                raise ModelError(msg)


def combine(
    parameters: Omega, strategy: str, logits: Mapping[str, Values], e_corr: Values
) -> FloatArray:
    """Omega of events.

    Args:
        parameters: The fitted parameters of the region.
        strategy: One of :data:`STRATEGIES`.
        logits: Network to logits, shape (n,).
        e_corr: Corrected energies, GeV, shape (n,).

    Returns:
        Shape (n,), electron high; NaN where an input is NaN.

    Raises:
        ModelError: If the parameters hold no such strategy.
    """
    part = parameters.of(strategy)
    energy = np.asarray(e_corr, np.float64)
    return np.where(np.isfinite(energy), part(logits, energy), np.nan)


def read_omega(path: str | os.PathLike[str], *, sha256: str | None = None) -> tuple[Omega, str]:
    """Read a parameter file.

    Args:
        path: JSON file, as ``cre combine`` writes it.
        sha256: The hash that it must have, if known.

    Returns:
        The parameters and the hash of the file.

    Raises:
        ModelError: If it cannot be read, is malformed or has another hash.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as err:
        msg = f"omega parameters {str(path)!r} cannot be read ({err.strerror})"
        raise ModelError(msg) from err
    digest = hashlib.sha256(content).hexdigest()
    if sha256 not in {None, digest}:
        msg = (
            f"omega parameters {str(path)!r} have the sha256 {digest}, expected is {sha256}: restore the "
            "file"
        )
        raise ModelError(msg)
    try:
        return Omega.model_validate_json(content), digest
    except ValidationError as err:
        msg = f"omega parameters {str(path)!r} are malformed:\n  {sentences(err)}"
        raise ModelError(msg) from err


def write_omega(parameters: Omega, path: str | os.PathLike[str]) -> None:
    """Write a parameter file under a temporary name, then rename it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_text(parameters.model_dump_json(exclude_none=True) + "\n", "utf-8")
    part.replace(target)
