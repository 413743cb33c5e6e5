"""TrainConfig: the training hyperparameters. Parameters that inference needs are in ModelSpec."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..core.errors import CheckpointError, UsageError
from ..core.fields import mistyped

VIEWS = ("plain", "flip", "dihedral")
MAX_COPIES = 10
HEADS = ("prototypes", "linear")
_ADDED = ("pixel", "augment", "copies")  # fields that old runs lack
_MAX_STAGES = 9  # after the first, eight halve the widest latent, 256, to 1


@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """The training hyperparameters of the pixel branch. Raises UsageError for an invalid value.

    The other ones are shared with the latent branch.
    """

    epochs: int = 12
    learning_rate: float = 4e-3
    warmup_share: float = 0.25
    weight_decay: float = 1e-3
    entropy_weight: float = 0.05
    embedding_dropout: float = 0.0
    label_smoothing: float = 0.05
    widths: tuple[int, ...] = (64, 128, 192)
    crop: int = 192  # pixels; each training image is cropped at multiples of 8
    augment: float = 0.6  # share of training images that are augmented

    def __post_init__(self) -> None:
        if self.crop < 32 or self.crop % 8:
            raise UsageError(f"crop {self.crop}: must be a multiple of 8 and at least 32")
        if not 0 <= self.augment <= 1:
            raise UsageError(f"augmented share {self.augment}: must be between 0 and 1")

    @classmethod
    def from_json(cls, data: object) -> PixelConfig:
        """Read the object of `TrainConfig.to_json`. Raises CheckpointError, UsageError."""
        if not isinstance(data, dict) or data.keys() != cls.__dataclass_fields__.keys():
            raise CheckpointError("the configuration of the pixel branch lacks fields or has unknown ones; train again")
        widths = data["widths"]
        values = {**data, "widths": tuple(widths) if isinstance(widths, list) else widths}
        for problem in mistyped(cls, values):
            raise CheckpointError(f"configuration of the pixel branch: {problem}; train again")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training hyperparameters. Raises UsageError for an invalid value."""

    epochs: int = 16
    batch_size: int = 32
    learning_rate: float = 1e-3  # peak of the one-cycle schedule
    warmup_share: float = 0.15  # of all steps
    weight_decay: float = 1e-2
    gradient_clip: float = 5.0  # norm over all parameters
    seed: int = 0
    threads: int = 2  # affects the result: the order of sums depends on it
    views: str = "flip"  # of each training image: plain, flip (2) or dihedral (8)
    augment: float = 0.0  # share of training latents that are of an augmented copy
    copies: int = 0  # augmented copies of each training image, encoded once
    mixup: float = 0.0  # a of Beta(a, a) for mixing latents and labels; 0 disables it
    step_dropout: float = 0.15  # probability that a step is left out of the pool
    entropy_weight: float = 0.1  # weight of the step-entropy bonus
    embedding_dropout: float = 0.3
    label_smoothing: float = 0.0
    widths: tuple[int, ...] = (48, 128, 256)  # channels per stage of the conv encoder; all but the first halve the side
    head: str = "prototypes"  # linear is an ablation without prototypes, which can't be exported
    pixel: PixelConfig = field(default_factory=PixelConfig)  # unused without a pixel branch

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise UsageError(problem)
        self.pixel_branch()

    def pixel_branch(self) -> TrainConfig:
        """Return the configuration of the pixel branch's step encoder."""
        own = {name: getattr(self.pixel, name) for name in self.__dataclass_fields__ if hasattr(self.pixel, name)}
        own |= {"augment": 0.0, "copies": 0}  # its images are augmented anew in each epoch, not its latents
        return self if own.items() <= vars(self).items() else replace(self, **own)

    def _problems(self) -> list[str]:
        checks = [
            (self.epochs >= 1, f"epochs {self.epochs}: must be at least 1"),
            (self.batch_size >= 2, f"batch size {self.batch_size}: must be at least 2"),
            (0 < self.learning_rate < 1, f"learning rate {self.learning_rate}: must be between 0 and 1"),
            (0 < self.warmup_share < 1, f"warm-up share {self.warmup_share}: must be between 0 and 1"),
            (0 <= self.weight_decay < 10, f"weight decay {self.weight_decay}: must be between 0 and 10"),
            (self.gradient_clip > 0, f"gradient clip {self.gradient_clip}: must be positive"),
            (0 <= self.seed < 2**32, f"seed {self.seed}: must be in [0, 2^32)"),
            (self.threads >= 1, f"threads {self.threads}: must be at least 1"),
            (self.views in VIEWS, f"views {self.views!r} do not exist; choose one of: {', '.join(VIEWS)}"),
            (0 <= self.augment <= 1, f"augmented share {self.augment}: must be between 0 and 1"),
            (0 <= self.copies <= MAX_COPIES, f"augmented copies {self.copies}: must be between 0 and {MAX_COPIES}"),
            (
                self.augment == 0 or self.copies > 0,
                f"augmented share {self.augment} without augmented copies: give 1 or more",
            ),
            (0 <= self.mixup < 10, f"mixup {self.mixup}: must be in [0, 10)"),
            (0 <= self.step_dropout < 1, f"step dropout {self.step_dropout}: must be in [0, 1)"),
            (
                0 <= self.entropy_weight < 10,
                f"entropy weight {self.entropy_weight}: must be in [0, 10)",
            ),
            (0 <= self.embedding_dropout < 1, f"dropout {self.embedding_dropout}: must be in [0, 1)"),
            (
                0 <= self.label_smoothing < 1,
                f"label smoothing {self.label_smoothing}: must be in [0, 1)",
            ),
            (
                1 <= len(self.widths) <= _MAX_STAGES and all(1 <= w <= 4096 for w in self.widths),
                f"widths {list(self.widths[:_MAX_STAGES])}: must be 1 to {_MAX_STAGES} stages of 1 to 4096 channels",
            ),
            (self.head in HEADS, f"head {self.head!r} does not exist; choose one of: {', '.join(HEADS)}"),
        ]
        return [message for good, message in checks if not good]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        pixel = {**asdict(self.pixel), "widths": list(self.pixel.widths)}
        return {**asdict(self), "widths": list(self.widths), "pixel": pixel}

    @classmethod
    def from_json(cls, data: object) -> TrainConfig:
        """Read a JSON object written by `to_json`; old ones lack `pixel`, `augment` and `copies`.

        Raises CheckpointError.
        """
        if not isinstance(data, dict) or {*_ADDED, *data} != set(cls.__dataclass_fields__):
            raise CheckpointError("the training configuration lacks fields or has unknown ones; train again")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for problem in mistyped(cls, {name: value for name, value in values.items() if name != "pixel"}):
            raise CheckpointError(f"training configuration: {problem}; train again")
        try:
            values["pixel"] = PixelConfig.from_json(data["pixel"]) if "pixel" in data else PixelConfig()
            return cls(**values)
        except UsageError as error:
            raise CheckpointError(f"training configuration: {error}; train again") from error
