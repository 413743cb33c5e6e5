"""Verdicts of a run on images, through its latent cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
from runs import tiny_run

from leakrt.train.fit import open_fitted
from leakrt.train.judge_images import judge_images
from leakrt.train.run import Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A copy of the run folder, which refers to the original data, encoder and latents."""
    return Run.open(shutil.copytree(tiny_run() / "run", tmp_path / "run"))


def test_images_get_the_verdicts_of_their_cached_latents(run):
    fitted = open_fitted(run)
    items = run.of("test")
    found = judge_images(fitted, [Path(item.path) for item in items])
    outputs = fitted.predict("test")
    wanted = [run.spec.class_names[k] for k in outputs.scores.argmax(axis=1)]
    assert [max(v.scores, key=v.scores.__getitem__) for v in found] == wanted
    assert {v.backend for v in found} == {"torch"}


def test_unreadable_images_give_an_error_and_the_others_a_verdict(run, image_folder, tmp_path):
    folder = image_folder(3)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    paths = [*sorted(folder.iterdir()), tmp_path / "gone.png"]
    found = judge_images(open_fitted(run), paths)
    assert [v.path for v in found] == [str(p) for p in paths]
    assert [v.error is not None for v in found] == [p.name in ("broken.png", "gone.png") for p in paths]
