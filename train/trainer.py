"""The training loop. It resumes after an interruption and is bit-identical on one machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from ..core.decision import probabilities
from ..core.errors import CheckpointError, ModelError, one_line
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from .batches import Batches, LatentSet
from .checkpoint import Checkpoint, prefixed
from .config import TrainConfig
from .leak_encoder import LeakEncoder
from .losses import training_loss
from .metrics import macro_auc
from .metrics_log import EpochMetrics, MetricsLog, read_metrics
from .predict import predict
from .schedules import OneCycle

BEST, LAST = "best.safetensors", "last.safetensors"
_SEED_STRIDE = 1_000_003  # larger than any number of epochs


class Task(Protocol):
    """What a Trainer trains: the network of one branch, its batches and its validation."""

    labels: npt.NDArray[np.int64]  # of the validation images

    @property
    def network(self) -> nn.Module:
        """The network. It maps the inputs of a batch to scores, embedding, gates and step weights."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the inputs and target class probabilities of each batch of one epoch, counted from 0."""

    def validate(self) -> npt.NDArray[np.float32]:
        """Return the scores of the validation images, float32 [N, K]."""


@dataclass(frozen=True)
class TrainingData:
    """Training and validation latents."""

    train: LatentSet
    val: LatentSet  # one view


class LatentTask:
    """Trains a leak encoder on cached latents of the VAE."""

    def __init__(self, spec: ModelSpec, config: TrainConfig, *, data: TrainingData) -> None:
        encoder = LeakEncoder(spec, config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: LeakEncoder = encoder
        self.network.set_latent_statistics(data.train.latents.std())
        self.labels = data.val.labels
        self._spec, self._val_latents = spec, data.val.latents.plain()
        self._batches = Batches(data.train, spec, config)

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield noised latents [B, T, 4, S/8, S/8] and class probabilities [B, K]."""
        for batch in self._batches.epoch(epoch):
            yield torch.from_numpy(batch.noised), torch.from_numpy(batch.targets)

    def validate(self) -> npt.NDArray[np.float32]:
        """Return the scores of the validation images, float32 [N, K]."""
        return predict(self.network, self._spec, self._val_latents).scores


class Trainer:
    """Trains one branch. Randomness in an epoch depends only on (seed, epoch), so no generator state is saved."""

    def __init__(self, folder: Path, config: TrainConfig, make_task: Callable[[], Task]) -> None:
        """Start, or resume after the last complete epoch in `folder`. `make_task` draws from torch's generator.

        Raises CheckpointError.
        """
        self._folder, self._config = folder, config
        with reproducible(config):
            torch.manual_seed(config.seed)
            self._task = make_task()
        self.network = self._task.network
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        total = config.epochs * len(self._task)
        self._schedule = OneCycle(config.learning_rate, total, config.warmup_share)
        self.history: list[EpochMetrics] = []
        if (folder / LAST).exists():
            self._restore(Checkpoint.read(folder / LAST))

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self.history)

    def run(self, progress: Progress = silent, *, report: Callable[[EpochMetrics], None] = lambda row: None) -> None:
        """Train to the last epoch, calling `report` after each one.

        Raises ModelError if the loss is not finite, StorageError.
        """
        if self.epoch >= self._config.epochs:
            return
        log = MetricsLog(self._folder, self.history)
        try:
            with reproducible(self._config):
                while self.epoch < self._config.epochs:
                    row = self._run_epoch(self.epoch, progress)
                    self._keep(row, log)
                    report(row)
        finally:
            log.close()

    def _run_epoch(self, epoch: int, progress: Progress) -> EpochMetrics:
        torch.manual_seed(self._config.seed * _SEED_STRIDE + epoch + 1)
        self.network.train()
        steps, total = len(self._task), 0.0
        rate = 0.0
        for position, (inputs, targets) in enumerate(self._task.epoch(epoch)):
            rate = self._set_rate(epoch * steps + position)
            loss = self._step(inputs, targets)
            if not math.isfinite(loss):
                raise ModelError(self._not_finite(f"the loss of batch {position + 1} is", epoch + 1))
            total += loss
            progress("training", epoch * steps + position + 1, self._config.epochs * steps)
        return self._validate(epoch + 1, rate, total / steps)

    def _step(self, inputs: Tensor, targets: Tensor) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        scores, _, _, step_weights = self.network(inputs)
        loss = training_loss(scores, step_weights, targets, config=self._config)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._config.gradient_clip)
        self._optimizer.step()
        return float(loss.detach())

    def _set_rate(self, step: int) -> float:
        rate, beta1 = self._schedule.at(step)
        for group in self._optimizer.param_groups:
            group["lr"], group["betas"] = rate, (beta1, group["betas"][1])
        return rate

    def _validate(self, epoch: int, rate: float, train_loss: float) -> EpochMetrics:
        scores = self._task.validate()
        if not np.isfinite(scores).all():
            raise ModelError(self._not_finite("a validation score is", epoch))
        return validation_metrics(scores, self._task.labels, epoch=epoch, learning_rate=rate, train_loss=train_loss)

    def _not_finite(self, what: str, epoch: int) -> str:
        kept = f"; earlier epochs are kept in {self._folder}" if epoch > 1 else ""
        return f"{what} not finite in epoch {epoch}{kept}; train again with a lower --learning-rate"

    def _keep(self, row: EpochMetrics, log: MetricsLog) -> None:
        """Write metrics, best weights and then the state. An interruption between them only repeats the epoch."""
        best = all(row.val_macro_auc > earlier.val_macro_auc for earlier in self.history)
        self.history.append(row)
        log.add(row)
        if best:
            Checkpoint(self.network.state_dict(), asdict(row)).write(self._folder / BEST)
        optimizer = {
            f"{index}.{name}": value
            for index, entry in self._optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }
        tensors = {**prefixed("model", self.network.state_dict()), **prefixed("optimizer", optimizer)}
        Checkpoint(tensors, {"history": [asdict(r) for r in self.history]}).write(self._folder / LAST)

    def _history(self, rows: list[dict[str, Any]]) -> list[EpochMetrics]:
        """Parse the completed epochs, which must be 1, 2, ... up to `config.epochs`. Raises TypeError, ValueError."""
        found = [read_metrics(row) for row in rows]
        if [row.epoch for row in found] != list(range(1, len(found) + 1)) or len(found) > self._config.epochs:
            raise ValueError(f"its history does not match {self._config.epochs} epochs")
        return found

    def _restore(self, checkpoint: Checkpoint) -> None:
        where = self._folder / LAST
        try:
            self.network.load_state_dict(checkpoint.part("model"))
            state: dict[int, dict[str, Any]] = {}
            for key, value in checkpoint.part("optimizer").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            if state.keys() != set(range(len(self._parameters))):
                raise ValueError("the optimiser's state lacks parameters")
            kept = {index: _moments(self._parameters[index], values) for index, values in state.items()}
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": kept})
            self.history = self._history(checkpoint.state["history"])
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = one_line(error)
            raise CheckpointError(f"{where} does not match this run ({reason}); train again with --restart") from error


def validation_metrics(
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    epoch: int,
    learning_rate: float,
    train_loss: float,
) -> EpochMetrics:
    """Return the metrics of scores float32 [N, K] of validation images with `labels`, which cover every class."""
    loss = float(functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(labels)))
    shares = probabilities(scores, 1.0)
    predicted = shares.argmax(axis=1)
    area = macro_auc(labels, shares)
    assert area is not None
    return EpochMetrics(
        epoch=epoch,
        learning_rate=learning_rate,
        train_loss=train_loss,
        val_loss=loss,
        val_macro_auc=area,
        val_balanced_accuracy=float(balanced_accuracy_score(labels, predicted)),
        val_top1=float((predicted == labels).mean()),
    )


def _moments(parameter: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return AdamW's state of one parameter in the parameter's memory order, which rounding depends on.

    Raises ValueError for missing tensors or other shapes.
    """
    shapes = {"step": torch.Size(()), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    if {name: value.shape for name, value in values.items()} != shapes:
        raise ValueError("the optimiser's state does not have AdamW's tensors")
    order = {name: torch.empty_like(parameter).copy_(values[name]) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": values["step"], **order}


@contextmanager
def reproducible(config: TrainConfig) -> Iterator[None]:
    """Use fixed threads, deterministic operators and a private generator, then restore the caller's settings."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
