"""The networks: DNN, CNN, HAMF and the energy CNN, as PyTorch modules that export to ONNX as they are.

Every network takes float32 inputs as of :mod:`processors.features`, in the order of ``INPUTS_OF``, and
normalises them itself, so that the normalisation travels in the graph. Classifiers return a logit, electrons
high; the sigmoid stands in the loss. Sizes are chosen for one core of a batch machine: the convolutions are few
and wide, because onnxruntime runs those at the full speed of the core, and attention works on a handful of
tokens. Squeeze-excitation: Hu et al., arXiv:1709.01507; multi-head attention: Vaswani et al., arXiv:1706.03762.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from processors.exceptions import CreError
from processors.geometry import N_BARS, N_LAYERS, N_STK_LAYERS

__all__ = [
    "INPUTS_OF",
    "LOG_RATIO_LIMITS",
    "MODALITIES",
    "OUTPUTS_OF",
    "Cnn",
    "Dnn",
    "EnergyCnn",
    "Hamf",
    "NetworkError",
    "make_network",
    "set_normalisation",
]

#: Inputs of each network, in the order of its arguments.
INPUTS_OF: Mapping[str, tuple[str, ...]] = {
    "dnn": ("variables",),
    "cnn": ("variables", "image"),
    "hamf": ("variables", "image", "stk", "stk_mask"),
    "energy": ("variables", "image"),
}
#: Outputs of each network, in the order in which it returns them.
OUTPUTS_OF: Mapping[str, tuple[str, ...]] = {
    "dnn": ("score",),
    "cnn": ("score",),
    "hamf": ("score", "attention"),
    "energy": ("log_ratio", "log_sigma"),
}
#: Columns of HAMF's output ``attention``.
MODALITIES: tuple[str, ...] = ("variables", "image", "stk")
#: The energy network answers between E_corr / 2 and 10 E_corr.
LOG_RATIO_LIMITS: tuple[float, float] = (math.log(0.5), math.log(10.0))
_LOG_SIGMA_LIMITS = (-6.0, 1.0)
#: Normalised variables are cut here: an outlier must not run away with the logit.
_LARGEST = 10.0
#: Added to the weights of a modality that is not there; exp of it is exactly 0 in float32.
_ABSENT = -1.0e4
#: The input ``image`` is ln(1 + E / MeV) over this.
_IMAGE_SCALE = 10.0
_N_PLANES = N_STK_LAYERS // 2


class NetworkError(CreError):
    """A recipe names an unknown network or an option that it does not have."""


class Standardise(nn.Module):
    """(x - mean) / std of the training sample, cut at ±10; the numbers are buffers and export with the graph."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("std", torch.ones(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, …)."""
        return ((x - self.mean) / self.std).clamp(-_LARGEST, _LARGEST)


class ChannelGate(nn.Module):
    """Squeeze-excitation of an image: channels weighted by a sigmoid of their means."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, channels // reduction, 1)
        self.up = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gate (n, channels, rows, columns)."""
        return x * torch.sigmoid(self.up(torch.relu(self.down(self.squeeze(x)))))


class FeatureGate(nn.Module):
    """Squeeze-excitation of tokens or of a vector: features weighted by a sigmoid of their means."""

    def __init__(self, features: int, reduction: int = 4) -> None:
        super().__init__()
        self.down = nn.Linear(features, features // reduction)
        self.up = nn.Linear(features // reduction, features)

    def forward(self, x: Tensor) -> Tensor:
        """Gate (n, features) by themselves or (n, tokens, features) by the mean over tokens."""
        squeezed = x.mean(dim=1, keepdim=True) if x.dim() == 3 else x
        return x * torch.sigmoid(self.up(torch.relu(self.down(squeezed))))


def _dense(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear, batch normalisation (folded into the linear map on export), ReLU, and so on."""
    layers: list[Any] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def two_views(image: Tensor) -> Tensor:
    """The image as its two views: channel 0 the even layers (y), channel 1 the odd ones (x).

    Args:
        image: Shape (n, 14, 22).

    Returns:
        Shape (n, 2, 7, 22).
    """
    return image.reshape(-1, N_LAYERS // 2, 2, N_BARS).transpose(1, 2)


class Trunk(nn.Module):
    """Convolutions over the two views, then squeeze-excitation: (n, c, 7, 22) to (n, channels, 4, 6)."""

    def __init__(self, views: int, channels: Sequence[int]) -> None:
        super().__init__()
        a, b, c = channels
        layers: list[Any] = []
        plan: tuple[tuple[int, int, tuple[int, int], tuple[int, int]], ...] = (
            (views, a, (3, 5), (1, 2)),
            (a, b, (3, 3), (1, 1)),
            (b, c, (3, 3), (2, 2)),
            (c, c, (3, 3), (1, 1)),
        )
        for before, after, kernel, stride in plan:
            padding = (kernel[0] // 2, kernel[1] // 2)
            layers += [
                nn.Conv2d(before, after, kernel, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.gate = ChannelGate(c)

    def forward(self, x: Tensor) -> Tensor:
        """Feature map of the views."""
        return self.gate(self.layers(x))


_TRUNK_CELLS = 4 * 6


class Dnn(nn.Module):
    """Multilayer perceptron on the variables, after Droz et al., arXiv:2102.05534."""

    def __init__(
        self, n_variables: int, *, hidden: Sequence[int] = (300, 150, 75), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.normalise_variables = Standardise((n_variables,))
        self.hidden = _dense((n_variables, *hidden), dropout)
        self.out = nn.Linear(hidden[-1], 1)

    def forward(self, variables: Tensor) -> tuple[Tensor, ...]:
        """Logit, shape (n,)."""
        return (self.out(self.hidden(self.normalise_variables(variables)))[:, 0],)


class Cnn(nn.Module):
    """Convolutions on the BGO image; the variables (energy and angle) join before the last layers."""

    def __init__(
        self,
        n_variables: int,
        *,
        channels: Sequence[int] = (32, 32, 64),
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.normalise_variables = Standardise((n_variables,))
        self.normalise_image = Standardise((1,))
        self.trunk = Trunk(2, channels)
        self.head = _dense((channels[-1] * _TRUNK_CELLS + n_variables, hidden, 64), dropout)
        self.out = nn.Linear(64, 1)

    def forward(self, variables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """Logit, shape (n,)."""
        cells = self.trunk(two_views(self.normalise_image(image))).flatten(1)
        joined = torch.cat([cells, self.normalise_variables(variables)], dim=1)
        return (self.out(self.head(joined))[:, 0],)


class EnergyCnn(nn.Module):
    """ln(E_true / E_corr) and the logarithm of its standard deviation, from image and axis.

    The trunk sees each view twice: the logarithmic image and the square root of the share of each bar in
    the total, which keeps the relative precision of the large signals.
    """

    def __init__(
        self,
        n_variables: int,
        *,
        channels: Sequence[int] = (32, 32, 64),
        hidden: int = 192,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalise_variables = Standardise((n_variables,))
        self.normalise_image = Standardise((1,))
        self.normalise_target = Standardise((1,))
        self.trunk = Trunk(4, channels)
        self.head = _dense((channels[-1] * _TRUNK_CELLS + n_variables, hidden, 64), dropout)
        self.out = nn.Linear(64, 2)

    def forward(self, variables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """log_ratio and log_sigma, both (n,); cut at the limits of this module outside training."""
        linear = torch.exp(image * _IMAGE_SCALE) - 1.0
        total = linear.sum(dim=(1, 2), keepdim=True).clamp(min=1.0)
        share = torch.sqrt((linear / total).clamp(min=1e-12)) * 4.0
        views = torch.cat([two_views(self.normalise_image(image)), two_views(share)], dim=1)
        joined = torch.cat(
            [self.trunk(views).flatten(1), self.normalise_variables(variables)], dim=1
        )
        out = self.out(self.head(joined))
        log_ratio = out[:, 0] * self.normalise_target.std + self.normalise_target.mean
        log_sigma = (out[:, 1] + torch.log(self.normalise_target.std)).clamp(*_LOG_SIGMA_LIMITS)
        if not self.training:
            log_ratio = log_ratio.clamp(*LOG_RATIO_LIMITS)
        return log_ratio, log_sigma


class TokenPool(nn.Module):
    """Attention inside a modality: a few learned queries, each a softmax-weighted mean of the tokens."""

    def __init__(self, features: int, queries: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(features, queries)

    def forward(self, tokens: Tensor) -> Tensor:
        """From (n, tokens, features) to (n, queries, features)."""
        return self.weigh(tokens).softmax(dim=1).transpose(1, 2) @ tokens


class CrossModal(nn.Module):
    """Multi-head attention among the tokens of all modalities, residual and layer normalisation."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(features, 3 * features)
        self.join = nn.Linear(features, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Mix tokens.

        Args:
            tokens: Shape (n, t, features).
            bias: Added to the attention on each token, shape (n, 1, 1, t).

        Returns:
            Shape (n, t, features).
        """
        t, features = tokens.shape[1], tokens.shape[2]
        depth = features // self.heads
        q, k, v = (
            part.reshape(-1, t, self.heads, depth).transpose(1, 2)
            for part in self.project(tokens).chunk(3, dim=2)
        )
        weights = (q @ k.transpose(2, 3) * depth**-0.5 + bias).softmax(dim=3)
        mixed = (weights @ v).transpose(1, 2).reshape(-1, t, features)
        return self.norm(tokens + self.join(mixed))


class Hamf(nn.Module):
    """Hierarchical attention multi-modal fusion of variables, BGO image and STK planes.

    Extractor, gate and attention inside each modality; attention across modalities; softmax weights
    over the modalities, which the network returns; a head on the weighted sum. Events without a track
    have STK weight 0 and no token attends to their STK.
    """

    def __init__(
        self,
        n_variables: int,
        *,
        channels: Sequence[int] = (32, 32, 64),
        features: int = 64,
        heads: int = 4,
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = features
        self.normalise_variables = Standardise((n_variables,))
        self.normalise_image = Standardise((1,))
        self.normalise_stk = Standardise((4,))
        self.variables = _dense((n_variables, hidden, hidden), dropout)
        self.gate_variables = FeatureGate(hidden)
        self.variable_tokens = nn.Linear(hidden, 2 * features)
        self.trunk = Trunk(2, channels)
        self.image_tokens = nn.Conv2d(channels[-1], features, 1)
        self.cell = nn.Parameter(torch.zeros(_TRUNK_CELLS, features))
        self.pool_image = TokenPool(features, 4)
        self.stk = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, features))
        self.plane = nn.Parameter(torch.zeros(_N_PLANES, features))
        self.gate_stk = FeatureGate(features)
        self.pool_stk = TokenPool(features, 1)
        self.cross = CrossModal(features, heads)
        self.weigh = nn.Linear(features, 1)
        self.head = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 1))
        nn.init.normal_(self.cell, std=0.5)
        nn.init.normal_(self.plane, std=0.5)

    def forward(
        self, variables: Tensor, image: Tensor, stk: Tensor, stk_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Logit (n,) and weights of the modalities (n, 3)."""
        hidden = self.gate_variables(self.variables(self.normalise_variables(variables)))
        v = self.variable_tokens(hidden).reshape(-1, 2, self.features)
        cells = self.image_tokens(self.trunk(two_views(self.normalise_image(image))))
        cells = cells.reshape(-1, self.features, _TRUNK_CELLS).transpose(1, 2)
        i = self.pool_image(cells + self.cell)
        planes = torch.relu(self.stk(self.normalise_stk(stk)) + self.plane)
        s = self.pool_stk(self.gate_stk(planes)) * stk_mask[:, :, None]
        here = torch.zeros_like(stk_mask)
        absent = (1.0 - stk_mask) * _ABSENT
        bias = torch.cat([here, here, here, here, here, here, absent], dim=1)[:, None, None]
        tokens = self.cross(torch.cat([v, i, s], dim=1), bias)
        pooled = torch.stack(
            [tokens[:, :2].mean(dim=1), tokens[:, 2:6].mean(dim=1), tokens[:, 6]], dim=1
        )
        weights = (self.weigh(pooled)[:, :, 0] + torch.cat([here, here, absent], dim=1)).softmax(
            dim=1
        )
        fused = (weights[:, :, None] * pooled).sum(dim=1)
        return self.head(fused)[:, 0], weights


_NETWORKS: Mapping[str, Any] = {"dnn": Dnn, "cnn": Cnn, "hamf": Hamf, "energy": EnergyCnn}


def make_network(name: str, n_variables: int, options: Mapping[str, Any] | None = None) -> Any:
    """Build a network with random weights (of the current torch seed).

    Args:
        name: ``dnn``, ``cnn``, ``hamf`` or ``energy``.
        n_variables: Columns of the input ``variables``.
        options: Keyword arguments of the network's class: widths, dropout.

    Returns:
        The module, in training mode.

    Raises:
        NetworkError: On an unknown network or option.
    """
    if name not in _NETWORKS:
        msg = f"unknown network {name!r}; known: {', '.join(_NETWORKS)}"
        raise NetworkError(msg)
    network = _NETWORKS[name]
    known = network.__init__.__kwdefaults__ or {}
    for option in options or {}:
        if option not in known:
            msg = f"network {name!r} has no option {option!r}; it takes: {', '.join(known)}"
            raise NetworkError(msg)
    return network(n_variables, **(options or {}))


def set_normalisation(network: Any, statistics: Mapping[str, tuple[Any, Any]]) -> None:
    """Store means and standard deviations of the training sample in a network.

    Args:
        network: The network.
        statistics: ``variables``, ``image``, ``stk`` or ``target`` to its mean and standard deviation,
            of the shape of the buffer; a standard deviation of 0 (a constant) counts as 1.

    Raises:
        NetworkError: If an entry that the network needs is missing, or is not finite.
    """
    for name, module in network.named_children():
        if not isinstance(module, Standardise):
            continue
        key = name.removeprefix("normalise_")
        if key not in statistics:
            msg = f"the normalisation of {key!r} is missing"
            raise NetworkError(msg)
        mean, std = (torch.as_tensor(v, dtype=torch.float32) for v in statistics[key])
        if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
            msg = f"the training sample has values of {key!r} that are not finite; clean it first"
            raise NetworkError(msg)
        module.mean.copy_(mean.reshape(module.mean.shape))
        module.std.copy_(torch.where(std > 0, std, torch.ones_like(std)).reshape(module.std.shape))
