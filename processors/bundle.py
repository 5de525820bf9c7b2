"""Model bundles: one ONNX file that says in its metadata what it is and what it may be used for.

The metadata are JSON under the key ``cre``: name, version, task, region, energy range, inputs, outputs,
variables, training hash. The graph holds the normalisation; its inputs are some of
:data:`processors.features.INPUTS`, its outputs a logit without sigmoid (``score``) and perhaps the
weights of the modalities (``attention``), or for the energy ``log_ratio`` and ``log_sigma``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from processors.exceptions import ModelError, sentences
from processors.features import INPUTS, VARIABLES

__all__ = [
    "METADATA_KEY",
    "ORT_ERRORS",
    "Bundle",
    "BundleRef",
    "Tensor",
    "check_providers",
    "open_session",
    "read_bundle",
    "read_checked",
]

METADATA_KEY = "cre"
#: What onnxruntime raises: its own exceptions, which have no common base, and ValueError.
ORT_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    *(e for e in vars(ort_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
)
_FLOAT = "tensor(float)"
_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "classifier": ("score",),
    "energy": ("log_ratio", "log_sigma"),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {"classifier": ("attention",), "energy": ()}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tensor(_Strict):
    """An input or output; the first dimension is the batch and must be free (null).

    Attributes:
        name: Its name in the graph.
        shape: Its shape, null for the batch.
        dtype: Always float32.
    """

    name: str
    shape: tuple[int | None, ...] = Field(min_length=1)
    dtype: Literal["float32"] = "float32"

    @field_validator("shape")
    @classmethod
    def _dynamic(cls, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if shape[0] is not None or None in shape[1:]:
            msg = f"shape {list(shape)} must be null (the batch) in its first dimension and nowhere else"
            raise ValueError(msg)
        return shape


class Bundle(_Strict):
    """The metadata of a model.

    Attributes:
        format: Version of these metadata.
        name: Name of the model.
        version: Its version.
        task: ``classifier`` (a logit, electron high) or ``energy`` (ln(E_true/E_corr) and its sigma).
        region: Region whose events it was trained for.
        energy_range_gev: Corrected energies, low included, high excluded.
        inputs: Inputs of the graph.
        outputs: Outputs of the graph.
        variables: Columns of the input ``variables``, in order; empty without that input.
        modalities: Meaning of the columns of ``attention``; empty without that output.
        training_hash: sha256 of recipe, seed and training inputs.
        synthetic: Whether it was trained on synthetic events.
        metrics: What was measured after the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    format: Literal[1]
    name: str = Field(min_length=1)
    version: str
    task: Literal["classifier", "energy"]
    region: Literal["fiducial", "topfiducial"]
    energy_range_gev: tuple[float, float]
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    variables: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    training_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    synthetic: bool
    metrics: dict[str, Any] = {}

    @field_validator("energy_range_gev")
    @classmethod
    def _ascending(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= interval[0] < interval[1] < math.inf:
            msg = f"{list(interval)} must ascend from a number that is not negative, and be finite"
            raise ValueError(msg)
        return interval

    def serves(self, energy_gev: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Which corrected energies lie in the bundle's range, shape (n,)."""
        low, high = self.energy_range_gev
        return np.asarray((energy_gev >= low) & (energy_gev < high))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(t.name for t in self.inputs)


@dataclass(frozen=True)
class BundleRef:
    """Where a model is and what it says of itself; plain data, so that it travels to workers.

    Attributes:
        path: The ONNX file.
        sha256: Hash of its content.
        bundle: Its metadata.
    """

    path: str
    sha256: str
    bundle: Bundle

    def to_dict(self) -> dict[str, Any]:
        """What provenance and histogram metadata keep of the model."""
        b = self.bundle
        return {
            "name": b.name,
            "version": b.version,
            "path": self.path,
            "sha256": self.sha256,
            "region": b.region,
            "energy_range_gev": list(b.energy_range_gev),
            "training_hash": b.training_hash,
            "synthetic": b.synthetic,
        }


def read_checked(path: str | os.PathLike[str], sha256: str | None) -> tuple[bytes, str]:
    """Content of a model file and its hash.

    Args:
        path: The file.
        sha256: The hash that it must have, or None.

    Returns:
        Content and hash.

    Raises:
        ModelError: If the file cannot be read or has another hash.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as err:
        msg = f"model {str(path)!r} cannot be read ({err.strerror}); give a path that every worker can read"
        raise ModelError(msg) from err
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        msg = (
            f"model {str(path)!r} has the sha256 {digest}, expected is {sha256}: the file changed or is "
            "damaged; restore it, or start the run anew if the change is wanted"
        )
        raise ModelError(msg)
    return content, digest


def check_providers(providers: Sequence[str]) -> None:
    """Refuse execution providers that this machine's onnxruntime does not offer.

    Raises:
        ModelError: With those that it offers.
    """
    available = ort.get_available_providers()
    absent = [p for p in providers if p not in available]
    if absent or not providers:
        what = f"does not offer {', '.join(absent)}" if absent else "needs at least one provider"
        msg = f"the onnxruntime of this machine {what}; available: {', '.join(available)}"
        raise ModelError(msg)


def open_session(
    content: bytes, where: str, providers: Sequence[str], *, optimise: bool = True
) -> ort.InferenceSession:
    """Open an ONNX graph with one thread and exactly the providers asked for.

    Args:
        content: The file's content; a graph with external data cannot be opened.
        where: Its name, for messages.
        providers: Execution providers in order of preference.
        optimise: Whether the graph is optimised, which takes time and pays only if it runs.

    Returns:
        The session.

    Raises:
        ModelError: If the providers are not available or the graph cannot be opened.
    """
    check_providers(providers)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(content, options, providers=list(providers))
    except ORT_ERRORS as err:
        msg = f"model {where!r} is no ONNX graph that this onnxruntime can run ({_first_line(err)})"
        raise ModelError(msg) from err
    used = session.get_providers()
    unused = [p for p in providers if p not in used]
    if unused:
        msg = (
            f"provider {unused[0]} could not be started for model {where!r} (onnxruntime fell back to "
            f"{', '.join(used)}); mend its installation or take another provider in the card"
        )
        raise ModelError(msg)
    return session


def read_bundle(path: str | os.PathLike[str], *, sha256: str | None = None) -> BundleRef:
    """Read a model's metadata and hold its graph against them.

    Args:
        path: The ONNX file.
        sha256: The hash that it must have, if known.

    Returns:
        The reference to the model.

    Raises:
        ModelError: If the hash is wrong, the metadata are missing or malformed, or the graph has other
            inputs and outputs than they say.
    """
    content, digest = read_checked(path, sha256)
    session = open_session(content, str(path), ("CPUExecutionProvider",), optimise=False)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        msg = (
            f"model {str(path)!r} has no metadata {METADATA_KEY!r}, so its region, energies and inputs are "
            "not known; write them as docs/formats.md says ('cre export' does)"
        )
        raise ModelError(msg)
    try:
        bundle = Bundle.model_validate(json.loads(text))
    except ValidationError as err:
        msg = f"metadata of model {str(path)!r} are malformed:\n  {sentences(err)}"
        raise ModelError(msg) from err
    except ValueError as err:
        msg = f"metadata of model {str(path)!r} are no JSON ({err})"
        raise ModelError(msg) from err
    for problem in _problems(bundle, session):
        msg = f"model {str(path)!r}: {problem}; export it anew with the right names and shapes"
        raise ModelError(msg)
    return BundleRef(str(path), digest, bundle)


def _problems(bundle: Bundle, session: ort.InferenceSession) -> Iterator[str]:
    """What does not fit between the metadata, the graph and this program."""
    names = [t.name for t in bundle.outputs]
    required = _OUTPUTS[bundle.task]
    for name in bundle.input_names:
        if name not in INPUTS:
            yield f"unknown input {name!r} (known: {', '.join(INPUTS)})"
    for name in bundle.variables:
        if name not in VARIABLES:
            yield f"unknown variable {name!r} ('processors.features.VARIABLES' lists them)"
        if bundle.variables.count(name) > 1:
            yield f"variable {name!r} stands twice in its list"
    if ("variables" in bundle.input_names) != bool(bundle.variables):
        yield "the input 'variables' and the list of variables must come together"
    for tensor in bundle.inputs:
        shape = tuple(len(bundle.variables) if s is None else s for s in INPUTS[tensor.name].shape)
        if tensor.shape[1:] != shape:
            yield f"input {tensor.name!r} has shape {list(tensor.shape)}, it must be {[None, *shape]}"
    if not set(required) <= set(names) <= {*required, *_OPTIONAL[bundle.task]}:
        yield (
            f"a model for the task {bundle.task!r} has the outputs {', '.join(required)}, not "
            f"{', '.join(names)}"
        )
    if ("attention" in names) != bool(bundle.modalities):
        yield "the output 'attention' and the list of modalities must come together"
    for tensor in bundle.outputs:
        wanted = (None, len(bundle.modalities)) if tensor.name == "attention" else (None,)
        if tensor.shape != wanted:
            yield f"output {tensor.name!r} has shape {list(tensor.shape)}, it must be {list(wanted)}"
    yield from _disagreements("input", bundle.inputs, session.get_inputs())
    yield from _disagreements("output", bundle.outputs, session.get_outputs())


def _disagreements(what: str, said: Sequence[Tensor], found: Sequence[Any]) -> Iterator[str]:
    names = [node.name for node in found]
    if sorted(names) != sorted(t.name for t in said):
        yield (
            f"the graph has the {what}s {', '.join(names)}, its metadata say "
            f"{', '.join(t.name for t in said)}"
        )
        return
    nodes = {node.name: node for node in found}
    for tensor in said:
        # a named or missing dimension is free: the first must be, those of an output may be
        shape = [s if isinstance(s, int) else None for s in nodes[tensor.name].shape]
        pairs = [
            (g, t)
            for g, t in zip(shape, tensor.shape, strict=False)
            if g is not None or what == "input"
        ]
        if nodes[tensor.name].type != _FLOAT:
            yield f"{what} {tensor.name!r} is a {nodes[tensor.name].type}, float32 is needed"
        if len(shape) != len(tensor.shape) or any(g != t for g, t in pairs):
            yield (
                f"{what} {tensor.name!r} has shape {shape} in the graph and {list(tensor.shape)} in its "
                "metadata (null stands for a free dimension)"
            )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
