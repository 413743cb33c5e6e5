"""ModelSpec: the parameters of a detector that a runtime needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import BundleError, UsageError
from .fields import mistyped
from .schedule import SCHEDULES, TRAIN_STEPS

VAE_KINDS = ("sd", "onnx", "builtin")
ENCODERS = ("conv",)
VAE_CHANNELS = 4  # of a Stable Diffusion latent
_MAX_CLASSES = 1000
_MAX_BRANCH_CHANNELS = 60


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The shapes and arithmetic of one detector. Validated on creation; raises UsageError."""

    class_names: tuple[str, ...]  # K names, in the order of `scores`
    real_class: str  # the class of camera images
    image_size: int = 256  # S, pixels, a multiple of 8
    vae_kind: str = "sd"
    vae_scale: float = 0.18215  # latent = scale x posterior mean; the exported VAE encoder applies it
    schedule: str = "scaled_linear"
    timesteps: tuple[int, ...] = (0, 20, 60, 150)  # T of the 1000 steps of the schedule
    sigma_normalize: bool = True
    noise_seed: int = 0
    draws: int = 1
    encoder: str = "conv"
    embedding_dim: int = 128  # D, over all branches
    prototypes_per_class: int = 6  # M, of each branch
    branch_channels: int = 0  # R channels of the pixel encoder, after the VAE's four; 0: no pixel branch

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise UsageError(problem)

    def _problems(self) -> list[str]:
        names, steps = self.class_names, self.timesteps
        checks = [
            (
                2 <= len(names) <= _MAX_CLASSES,
                f"{len(names)} classes; the number must be between 2 and {_MAX_CLASSES}",
            ),
            (len(set(names)) == len(names), "a class name appears twice"),
            (
                self.real_class in names,
                f"the real class {self.real_class!r} is not one of: {', '.join(names)}",
            ),
            (
                self.image_size % 8 == 0 and 32 <= self.image_size <= 2048,
                f"image size {self.image_size}; it must be a multiple of 8 between 32 and 2048",
            ),
            (
                self.vae_kind in VAE_KINDS,
                f"no VAE kind {self.vae_kind!r}; choose one of: {', '.join(VAE_KINDS)}",
            ),
            (
                self.schedule in SCHEDULES,
                f"no schedule {self.schedule!r}; choose one of: {', '.join(SCHEDULES)}",
            ),
            (self.encoder in ENCODERS, f"no encoder {self.encoder!r}; choose one of: {', '.join(ENCODERS)}"),
            (1 <= len(steps) <= 64, f"{len(steps)} timesteps; the number must be between 1 and 64"),
            (len(set(steps)) == len(steps), "a timestep appears twice"),
            (
                all(0 <= t < TRAIN_STEPS for t in steps),
                f"timesteps {list(steps)}; each must be between 0 and {TRAIN_STEPS - 1}",
            ),
            (1 <= self.draws <= 64, f"{self.draws} draws; the number must be between 1 and 64"),
            (0 <= self.noise_seed < 2**64, "the noise seed must fit in 64 bits"),
            (1 <= self.embedding_dim <= 4096, f"embedding of {self.embedding_dim} dimensions; it must have 1 to 4096"),
            (
                1 <= self.prototypes_per_class <= 256,
                f"{self.prototypes_per_class} prototypes per class; the number must be between 1 and 256",
            ),
            (
                0 <= self.branch_channels <= _MAX_BRANCH_CHANNELS,
                f"{self.branch_channels} branch channels; the number must be between 0 and {_MAX_BRANCH_CHANNELS}",
            ),
            (
                self.branch_channels == 0 or self.embedding_dim % 2 == 0,
                f"embedding of {self.embedding_dim} dimensions; with a pixel branch it must be even, half for each",
            ),
            (0 < self.vae_scale < 1e4, f"VAE scale {self.vae_scale}; it must be positive and below 10000"),
        ]
        return [message for good, message in checks if not good]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of one latent: (C, S/8, S/8), with C = 4 + R channels."""
        return VAE_CHANNELS + self.branch_channels, self.image_size // 8, self.image_size // 8

    @property
    def branches(self) -> tuple[slice, ...]:
        """The channels of `latent` that each branch encodes: the VAE's, and the pixel encoder's if there is one."""
        vae, pixels = slice(0, VAE_CHANNELS), slice(VAE_CHANNELS, VAE_CHANNELS + self.branch_channels)
        return (vae, pixels) if self.branch_channels else (vae,)

    def one_branch(self) -> ModelSpec:
        """Return the spec of a detector with the latent branch alone."""
        return replace(self, branch_channels=0, embedding_dim=self.embedding_dim // len(self.branches))

    @property
    def real_index(self) -> int:
        """Index of the real class in `scores`."""
        return self.class_names.index(self.real_class)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, data: object) -> ModelSpec:
        """Read the object that `to_json` returned. Raises BundleError for missing, unknown or mistyped fields."""
        if not isinstance(data, dict):
            raise BundleError("the model spec is not a JSON object")
        fields = cls.__dataclass_fields__
        unknown, missing = data.keys() - fields.keys(), {"class_names", "real_class"} - data.keys()
        if unknown or missing:
            raise BundleError(f"model spec: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for problem in mistyped(cls, values):
            raise BundleError(f"model spec: {problem}")
        try:
            return cls(**values)
        except UsageError as error:
            raise BundleError(f"model spec: {error}") from error
