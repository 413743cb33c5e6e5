"""A VAE encoder in an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError, UsageError, one_line
from .encoder import OWN_SCALE, Array, VaeDescription, fingerprint, one_by_one, probe, resolved
from .onnx_file import read_onnx

DEFAULT_SCALE = 0.18215  # Stable Diffusion 1 and 2

_LATENT_NAMES = ("latent", "mean", "latent_sample")
_NEEDED = "image [B, 3, S, S] -> latent [B, 4, S/8, S/8]"
_FATAL = 4  # ONNX Runtime's log level: what fails is raised as well


class OnnxVae:
    """An ONNX file with one input float32 [b, 3, H, W], of which one output is the unscaled latent.

    Attributes: `model` (bytes, self-contained), `input_name`, `output_name`, `outputs` (the names of all outputs).
    """

    def __init__(self, source: str, scale: float, image_size: int, output: str | None = None) -> None:
        """Load a file, with weights that lie beside it. `output` names the output that is the latent.

        Without it that is the only output, or the only one called latent, mean or latent_sample. Raises ModelError,
        UsageError for a name that is not there, MissingExtraError without onnx.
        """
        self._name = f"onnx:{source}"
        read = read_onnx(Path(source), self._name)
        self.model = read.model.SerializeToString()
        self._session = _open(self._name, self.model)
        self.input_name = _input(self._name, self._session, image_size)
        self.outputs = tuple(str(value.name) for value in self._session.get_outputs())
        self.output_name = _choose(self._name, self.outputs, output)
        _check_type(self._name, self._session, self.output_name)
        scale = scale if scale != OWN_SCALE else DEFAULT_SCALE
        chosen = "" if self.output_name == self.outputs[0] else self.output_name
        identity = fingerprint(read.digest, scale, image_size, chosen)
        self.description = VaeDescription("onnx", resolved(source), scale, image_size, identity, self.output_name)
        probe(self._run, image_size, self._name)

    def encode(self, images: Array) -> Array:
        """See VaeEncoder."""
        return one_by_one(self._run, images) * np.float32(self.description.scale)

    def _run(self, image: Array) -> Array:
        try:
            result = self._session.run([self.output_name], {self.input_name: image})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(f"{self._name} can't be run ({one_line(error)}); needed: {_NEEDED}") from error
        return np.asarray(result, np.float32)


def first_output(source: str) -> str:
    """The name of a file's first output, which runs were trained on before they recorded one. Raises ModelError."""
    outputs = read_onnx(Path(source), f"onnx:{source}").model.graph.output
    return str(outputs[0].name) if outputs else ""


def _open(name: str, model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # images run side by side instead: no waiting within a layer
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = _FATAL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in OnnxVae._run
        raise ModelError(f"{name} can't be loaded ({one_line(error)}); needed: {_NEEDED}") from error


def _input(name: str, session: Any, size: int) -> str:
    inputs = session.get_inputs()
    found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(f"{name} takes {found or 'nothing'}, where one float32 [b, 3, H, W] is needed")
    batch, channels, *sides = inputs[0].shape
    if isinstance(channels, int) and channels != 3:
        raise ModelError(f"{name} takes {channels} channels ({found}), where RGB is needed: [b, 3, H, W]")
    fixed = [side for side in sides if isinstance(side, int) and side != size]
    if fixed:
        remedy = "export it with dynamic height and width, or train with --image-size of its own"
        raise ModelError(f"{name} can't be run on {size} x {size} pixels: it takes {found}; {remedy}")
    if isinstance(batch, int) and batch != 1:
        raise ModelError(f"{name} can't be run on one image: it takes {found}; export it with a dynamic batch")
    return str(inputs[0].name)


def _choose(name: str, outputs: tuple[str, ...], wanted: str | None) -> str:
    listed = ", ".join(outputs)
    if wanted is not None:
        if wanted not in outputs:
            raise UsageError(f"{name} has no output {wanted!r}; choose one of: {listed} (--vae-output)")
        return wanted
    if len(outputs) == 1:
        return outputs[0]
    known = [output for output in outputs if output in _LATENT_NAMES]
    if len(known) != 1:
        raise ModelError(f"{name} has {len(outputs)} outputs: {listed}; name the latent with --vae-output")
    return known[0]


def _check_type(name: str, session: Any, output: str) -> None:
    (kind,) = {value.type for value in session.get_outputs() if value.name == output}
    if kind != "tensor(float)":
        raise ModelError(f"{name} gives {kind}, where a float32 latent is needed; end it with a Cast")
