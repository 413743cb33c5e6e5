"""The training loop: reproducible, resumable, with clear errors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dataclasses import replace

from latent_sets import latent_set
from runs import CLASSES, SPEC

from leakrt.core.errors import CheckpointError, ModelError
from leakrt.train.batches import LatentSet
from leakrt.train.checkpoint import Checkpoint
from leakrt.train.config import TrainConfig
from leakrt.train.metrics_log import EpochMetrics
from leakrt.train.record_cache import RecordTable
from leakrt.train.trainer import BEST, LAST, LatentTask, Trainer, TrainingData

SPEC = replace(SPEC, class_names=CLASSES)
CONFIG = TrainConfig(epochs=4, batch_size=8, learning_rate=5e-3, widths=(8, 12), threads=1, views="flip", mixup=0.2)


DATA = TrainingData(latent_set(SPEC, 26, 0), latent_set(SPEC, 12, 1))


def train(folder, config=CONFIG, data=DATA, report=lambda row: None):
    folder.mkdir(exist_ok=True)
    Trainer(folder, config, lambda: LatentTask(SPEC, config, data=data)).run(report=report)
    return {name: (folder / name).read_bytes() for name in (BEST, LAST, "metrics.csv")}


def stop_after(epoch):
    def report(row):
        if row.epoch == epoch:
            raise KeyboardInterrupt

    return report


def test_two_runs_give_the_same_bits_and_another_seed_others(tmp_path):
    first = train(tmp_path / "a")
    torch.manual_seed(99)
    assert train(tmp_path / "b") == first
    assert train(tmp_path / "c", replace(CONFIG, seed=1))[LAST] != first[LAST]


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_an_interrupted_run_resumes_to_the_same_result(tmp_path, epoch):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", report=stop_after(epoch))
    assert train(tmp_path / "stopped") == train(tmp_path / "whole")


def test_an_interrupted_linear_ablation_resumes(tmp_path):
    linear = replace(CONFIG, head="linear")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", linear, report=stop_after(2))
    assert train(tmp_path / "stopped", linear) == train(tmp_path / "whole", linear)


def test_the_best_weights_are_those_of_the_first_epoch_with_the_best_auc(tmp_path):
    rows: list[EpochMetrics] = []
    train(tmp_path / "run", report=rows.append)
    best = max(rows, key=lambda row: row.val_macro_auc)
    assert Checkpoint.read(tmp_path / "run" / BEST).state["epoch"] == best.epoch


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", report=stop_after(1))
    kept = (tmp_path / "run" / LAST).read_bytes()
    broken = RecordTable.of(np.full((26, 2, *SPEC.latent_shape), np.nan, np.float32))
    with pytest.raises(ModelError, match="not finite in epoch 2; earlier epochs are kept"):
        train(tmp_path / "run", data=TrainingData(LatentSet(broken, DATA.train.labels), DATA.val))
    assert (tmp_path / "run" / LAST).read_bytes() == kept


def test_a_truncated_checkpoint_is_one_clear_error(tmp_path):
    train(tmp_path / "run")
    (tmp_path / "run" / LAST).write_bytes((tmp_path / "run" / LAST).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="--restart") as error:
        train(tmp_path / "run")
    assert "\n" not in str(error.value)


def rewrite(folder, change) -> None:
    """Rewrite the last checkpoint after `change(tensors, history)`."""
    kept = Checkpoint.read(folder / LAST)
    tensors, history = dict(kept.tensors), [dict(row) for row in kept.state["history"]]
    change(tensors, history)
    Checkpoint(tensors, {"history": history}).write(folder / LAST)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, history: tensors.pop("optimizer.0.exp_avg"),
        lambda tensors, history: tensors.update({"optimizer.0.exp_avg": torch.zeros(3)}),
        lambda tensors, history: tensors.update({"optimizer.0.step": torch.zeros(2)}),
        lambda tensors, history: tensors.update({"optimizer.0.other": torch.zeros(())}),
        lambda tensors, history: tensors.update({"optimizer.999.step": torch.zeros(())}),
        lambda tensors, history: tensors.update({"optimizer.x": torch.zeros(())}),
        lambda tensors, history: tensors.pop("model.head.prototypes"),
        lambda tensors, history: tensors.update({"model.head.prototypes": torch.zeros(1)}),
        lambda tensors, history: history.pop(0),
        lambda tensors, history: history.append(history[0]),
        lambda tensors, history: history.extend({**history[-1], "epoch": n} for n in range(5, 9)),
        lambda tensors, history: history[0].update(val_macro_auc="high"),
        lambda tensors, history: history[0].pop("epoch"),
    ],
)
def test_a_checkpoint_of_another_run_is_one_clear_error(tmp_path, change):
    train(tmp_path / "run")
    rewrite(tmp_path / "run", change)
    with pytest.raises(CheckpointError, match=r"last\.safetensors does not match this run .*--restart") as error:
        train(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_the_callers_torch_settings_are_restored(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
