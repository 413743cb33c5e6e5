"""The two graphs of a variant: tensor names and shapes, which are part of the bundle format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ModelError
from .spec import ModelSpec

Dimensions = Sequence[int | str | None]


@dataclass(frozen=True)
class TensorSpec:
    """A float32 tensor of a graph. Its first dimension, the batch, is dynamic and not listed."""

    name: str
    shape: tuple[int, ...]  # without the batch dimension

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(['B', *map(str, self.shape)])}]"


@dataclass(frozen=True)
class GraphSpec:
    """One graph: the stem of its file name, its input, and its outputs in order."""

    stem: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]

    def check_declared(
        self, inputs: Sequence[tuple[str, Dimensions]], outputs: Sequence[tuple[str, Dimensions]]
    ) -> None:
        """Check the names and dimensions that a loaded graph declares, batch first.

        A dimension that is a string or None is dynamic. The input may be dynamic only in its batch. Dynamic dimensions
        of an output are left to `check_shape` at the first run. Raises ModelError with graph, tensor and shape.
        """
        declared = dict(inputs)
        if set(declared) != {self.input.name}:
            raise ModelError(f"{self.stem}: the inputs are {sorted(declared)}, expected {self.input}")
        self._check_dimensions(self.input, declared[self.input.name], static=True)
        declared = dict(outputs)
        for tensor in self.outputs:
            if tensor.name not in declared:
                raise ModelError(f"{self.stem}: the outputs are {sorted(declared)}, expected {tensor}")
            self._check_dimensions(tensor, declared[tensor.name], static=False)

    def check_shape(self, tensor: TensorSpec, shape: Sequence[int], batch: int) -> None:
        """Check the shape of a result. Raises ModelError with graph, tensor and shape."""
        if tuple(shape) != (batch, *tensor.shape):
            raise ModelError(f"{self.stem}: {tensor.name} has shape {list(shape)}, expected {tensor} with B = {batch}")

    def _check_dimensions(self, tensor: TensorSpec, found: Dimensions, static: bool) -> None:
        fixed = all(isinstance(n, int) or not static for n in found[1:])
        fits = len(found) == len(tensor.shape) + 1 and not isinstance(found[0], int)
        same = all(n == m for n, m in zip(found[1:], tensor.shape, strict=False) if isinstance(n, int))
        if not (fixed and fits and same):
            raise ModelError(f"{self.stem}: {tensor.name} has shape {list(found)}, expected {tensor}")


def vae_encoder_graph(spec: ModelSpec) -> GraphSpec:
    """Return the VAE encoder's graph: image [B, 3, S, S], RGB in [-1, 1] -> latent [B, C, S/8, S/8], scaled."""
    image = TensorSpec("image", (3, spec.image_size, spec.image_size))
    return GraphSpec("vae_encoder", image, (TensorSpec("latent", spec.latent_shape),))


def leak_encoder_graph(spec: ModelSpec) -> GraphSpec:
    """Return the leak encoder's graph.

    noised [B, T, C, S/8, S/8] -> scores [B, K], embedding [B, D], gates [B, D], step_weights [B, T].
    """
    steps = len(spec.timesteps)
    outputs = (
        TensorSpec("scores", (len(spec.class_names),)),
        TensorSpec("embedding", (spec.embedding_dim,)),
        TensorSpec("gates", (spec.embedding_dim,)),
        TensorSpec("step_weights", (steps,)),
    )
    return GraphSpec("leak_encoder", TensorSpec("noised", (steps, *spec.latent_shape)), outputs)
