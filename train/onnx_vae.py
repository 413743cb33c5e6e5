"""A VAE encoder from a user's ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ModelError, UsageError, one_line
from ..core.onnx_session import open_onnx_session
from .latent_checks import check_finite, check_shape, one_by_one, probe_images
from .onnx_file import read_onnx
from .onnx_nodes import check_choices, check_operators, encoder_of, sort_nodes
from .vae import FIRST_OUTPUT, Array, VaeDescription, fingerprint_of, resolved

DEFAULT_SCALE = 0.18215  # Stable Diffusion 1 and 2
LATENT_NAMES = ("latent", "mean", "latent_sample")  # selected among several outputs

_SHAPES = "image [B, 3, S, S] -> latent [B, 4, S/8, S/8]"
_CHANNELS = 3


class OnnxVae:
    """An ONNX file with one input float32 [b, 3, H, W] and the unscaled latent among its outputs.

    Attributes: `model` (the file with all weights inside and sorted nodes), `graph` (the parsed part that the latent
    depends on; copy it before changing it), `input_name`, `output_name`, `notes` (remarks on the choice of output).
    """

    def __init__(self, source: str, scale: float | None, image_size: int, *, output: str | None = None) -> None:
        """Read the file with its external weights. `output` is as in `open_vae`, or FIRST_OUTPUT.

        Raises ModelError, and UsageError if `output` does not exist or is required.
        """
        name, self._source = f"onnx:{source}", source
        file = read_onnx(source)
        self.model = file.model
        if sort_nodes(file.parsed.graph, name):
            self.model = bytes(file.parsed.SerializeToString())
        self._session = _onnx_session(name, self.model)
        self.input_name = _onnx_input(name, self._session, image_size)
        outputs = [node.name for node in self._session.get_outputs()]
        self.output_name = _onnx_output(name, self._session, output)
        self.notes = () if len(outputs) == 1 else (_output_note(name, self.output_name, outputs),)
        self.graph = encoder_of(file.parsed, self.output_name, name)
        check_operators(self.graph, name)
        check_choices(self.graph, self.input_name, name)
        scale = scale if scale is not None else DEFAULT_SCALE
        taken = "" if self.output_name == outputs[0] else f" {self.output_name}"
        fingerprint = fingerprint_of(file.digest + taken, scale, image_size)
        self.description = VaeDescription(
            kind="onnx",
            source=resolved(source),
            scale=scale,
            image_size=image_size,
            fingerprint=fingerprint,
            output=self.output_name,
        )
        latent = self._run(probe_images(1, image_size))
        check_shape(f"{name}, output {self.output_name}", latent.shape, image_size)
        check_finite(name, latent)

    def encode(self, images: Array) -> Array:
        """Encode images as specified by `VaeEncoder.encode`."""
        return one_by_one(self._run, images) * np.float32(self.description.scale)

    def _run(self, image: Array) -> Array:
        try:
            result = self._session.run([self.output_name], {self.input_name: image})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            size = image.shape[-1]
            why = f"can't be run on an image of {size} x {size} ({one_line(error)})"
            raise ModelError(f"onnx:{self._source} {why}; needed: {_SHAPES} for S = {size}") from error
        return np.asarray(result, np.float32)


def _onnx_session(name: str, model: bytes) -> Any:
    import onnxruntime as ort

    def configure(options: Any) -> None:
        options.use_deterministic_compute = True

    try:
        # One thread per session: images run in parallel instead, without synchronising within a layer.
        return open_onnx_session(model, threads=1, configure=configure)
    except Exception as error:  # as in OnnxVae._run
        raise ModelError(f"{name} can't be loaded by ONNX Runtime {ort.__version__} ({one_line(error)})") from error


def _onnx_input(name: str, session: Any, size: int) -> str:
    inputs = session.get_inputs()
    found = ", ".join(f"{node.name} {node.type} {node.shape}" for node in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(f"{name} takes {found or 'nothing'}; one float32 [b, 3, H, W] is needed")
    batch, channels, *sides = inputs[0].shape
    if isinstance(channels, int) and channels != _CHANNELS:
        hint = ": its channels come last; transpose them inside the graph" if sides[-1] == _CHANNELS else ""
        raise ModelError(f"{name} takes {found}; one float32 [b, 3, H, W] is needed{hint}")
    if isinstance(batch, int) and batch != 1:
        raise ModelError(f"{name} takes {found}: its batch is fixed at {batch}; export it with a dynamic batch")
    if any(isinstance(side, int) and side != size for side in sides):
        why = f"takes images of {' x '.join(map(str, sides))} only, but --image-size is {size}"
        raise ModelError(f"{name} {why}; change --image-size, or export it with a dynamic height and width")
    return str(inputs[0].name)


def _onnx_output(name: str, session: Any, wanted: str | None) -> str:
    """Select the output. Raises UsageError for an unknown name or an ambiguous choice, ModelError for another type."""
    outputs = {str(node.name): node for node in session.get_outputs()}
    listed = ", ".join(outputs)
    if wanted is None:
        known = [output for output in outputs if output in LATENT_NAMES]
        if len(outputs) > 1 and len(known) != 1:
            raise UsageError(f"{name} has the outputs {listed}; choose the posterior mean with --vae-output")
        wanted = known[0] if known else listed
    elif wanted == FIRST_OUTPUT:
        wanted = next(iter(outputs))
    if wanted not in outputs:
        raise UsageError(f"--vae-output {wanted}: {name} has no such output; it has {listed}")
    kind = outputs[wanted].type
    if kind != "tensor(float)":
        raise ModelError(f"{name} gives {kind} as {wanted}; a float32 latent is needed: append a Cast")
    return wanted


def _output_note(name: str, output: str, outputs: list[str]) -> str:
    return f"{name} has the outputs {', '.join(outputs)}; {output} is used as the posterior mean"
