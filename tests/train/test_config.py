"""TrainConfig: invalid values are refused by name, and JSON round-trips."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from leakrt.core.errors import CheckpointError, UsageError
from leakrt.train.config import TrainConfig


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"batch_size": 1}, "batch size 1: must be at least 2"),
        ({"learning_rate": 0.0}, "learning rate 0.0: must be between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"warmup_share": 1.0}, "warm-up share 1.0"),
        ({"weight_decay": -1.0}, "weight decay -1.0"),
        ({"gradient_clip": 0.0}, "gradient clip 0.0: must be positive"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"threads": 0}, "threads 0: must be at least 1"),
        ({"views": "rotate"}, "views 'rotate' do not exist; choose one of: plain, flip, dihedral"),
        ({"mixup": -0.1}, "mixup -0.1"),
        ({"step_dropout": 1.0}, "step dropout 1.0"),
        ({"entropy_weight": 10.0}, "entropy weight 10.0"),
        ({"embedding_dropout": 1.0}, "dropout 1.0"),
        ({"label_smoothing": -0.01}, "label smoothing -0.01"),
        ({"widths": ()}, r"widths \[\]: must be 1 to 9 stages"),
        ({"widths": (8,) * 10}, "1 to 9 stages"),
        ({"widths": (8, 5000)}, "of 1 to 4096 channels"),
        ({"head": "mlp"}, "head 'mlp' does not exist; choose one of: prototypes, linear"),
    ],
)
def test_an_invalid_value_is_refused_by_name(changes, words):
    with pytest.raises(UsageError, match=words):
        replace(TrainConfig(), **changes)


def test_a_configuration_round_trips_through_json():
    config = TrainConfig(epochs=3, widths=(8, 12), views="dihedral", mixup=0.2, head="linear")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data.pop("seed"), "lacks fields or has unknown ones"),
        (lambda data: data.update(colour="red"), "lacks fields or has unknown ones"),
        (lambda data: data.update(epochs="many"), "epochs"),
        (lambda data: data.update(widths=[8, "x"]), "widths"),
        (lambda data: data.update(epochs=0), "epochs 0: must be at least 1; train again"),
    ],
)
def test_damaged_json_is_refused_with_the_remedy(damage, words):
    data = TrainConfig().to_json()
    damage(data)
    with pytest.raises(CheckpointError, match=words) as error:
        TrainConfig.from_json(data)
    assert str(error.value).endswith("train again")


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_json_that_is_not_an_object_is_refused(data):
    with pytest.raises(CheckpointError, match="train again"):
        TrainConfig.from_json(data)
