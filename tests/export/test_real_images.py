"""End to end on photographs and the shared encoder, if available: train, export, load, classify."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from leakrt.core.spec import ModelSpec
from leakrt.export.exporter import export_run
from leakrt.runtime.detector import Detector
from leakrt.train.config import TrainConfig
from leakrt.train.fit import open_fitted
from leakrt.train.judge_images import judge_images
from leakrt.train.session import TrainRequest, train


def link(bench: Path, root: Path, split: str, count: int) -> None:
    for name in ("real", "stylegan_hmd"):
        folder = root / split / name
        folder.mkdir(parents=True)
        for file in sorted((bench / split / name).iterdir())[:count]:
            (folder / file.name).symlink_to(file.resolve())


def test_photographs_get_the_same_verdicts_from_run_and_bundle(tmp_path, shared):
    bench, encoder = shared("leakbench"), shared("models/vaelight_encoder.onnx")
    for split, count in (("train", 24), ("val", 20)):
        link(bench, tmp_path / "data", split, count)
    config = TrainConfig(epochs=2, batch_size=8, widths=(8, 12), threads=1, views="plain")
    spec = ModelSpec(
        class_names=("real", "x"),
        real_class="real",
        image_size=64,
        timesteps=(0, 40),
        embedding_dim=16,
        prototypes_per_class=2,
    )
    request = TrainRequest(
        data=tmp_path / "data",
        out=tmp_path / "run",
        vae=f"onnx:{encoder}",
        cache=tmp_path / "cache",
        config=config,
        spec=spec,
        vae_scale=0.18215,
    )
    run = train(request)
    exported = export_run(run, tmp_path / "bundle")
    assert exported.parity.same_verdicts == exported.parity.images == 40
    assert exported.parity.relative_score_difference <= 1e-4
    paths = sorted((bench / "test" / "real").iterdir())[:6]
    found = list(Detector.load(tmp_path / "bundle").check_stream(paths))
    wanted = judge_images(open_fitted(run), paths)
    assert [v.verdict for v in found] == [v.verdict for v in wanted]
    assert np.allclose([v.log_density for v in found], [v.log_density for v in wanted], atol=1e-2)
