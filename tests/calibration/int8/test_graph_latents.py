"""Latents of a graph are computed once, by any process, and those of a temporary graph are deleted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import TINY_SPEC, noise_image, vae_encoder

pytest.importorskip("torch")
pytest.importorskip("onnx")
from PIL import Image

from leakrt.calibration.images import preprocess_file
from leakrt.calibration.int8.graph_latents import GraphLatents, GraphVae
from leakrt.core.errors import ImageError, ModelError, StorageError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.progress import silent
from leakrt.export.sessions import GraphSession

GRAPH, OTHER = vae_encoder(TINY_SPEC, seed=0), vae_encoder(TINY_SPEC, seed=1)


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{i}.png" for i in range(7)]
    for i, path in enumerate(found):
        Image.fromarray(noise_image(i % 6)).save(path)  # the last equals the first
    return found


@pytest.fixture
def encoded(monkeypatch):
    """Count the images that a graph encodes."""
    counts, encode = [], GraphVae.encode

    def counted(vae, images):
        counts.append(len(images))
        return encode(vae, images)

    monkeypatch.setattr(GraphVae, "encode", counted)
    return lambda: sum(counts)


def plain(stored):
    return stored.read(np.arange(len(stored)))


def of(latents, model=GRAPH, threads=2, **options):
    return latents.of(TINY_SPEC, model, threads, task="task", progress=silent, **options)


def test_they_are_those_of_the_graph_in_the_order_of_the_images(tmp_path, paths):
    runner = GraphSession(vae_encoder_graph(TINY_SPEC), GRAPH, 1)
    expected = [runner.run(preprocess_file(path, TINY_SPEC.image_size)[None])[0][0] for path in paths]
    for threads in (1, 3):
        found = of(GraphLatents(tmp_path / f"cache{threads}", paths), threads=threads)
        np.testing.assert_array_equal(plain(found), expected)


def test_latents_of_another_process_are_reused_and_another_graph_has_its_own(tmp_path, paths, encoded):
    first = plain(of(GraphLatents(tmp_path / "cache", paths)))
    assert encoded() == 6
    again = plain(of(GraphLatents(tmp_path / "cache", paths)))
    assert encoded() == 6
    np.testing.assert_array_equal(first, again)
    other = plain(of(GraphLatents(tmp_path / "cache", paths), OTHER))
    assert encoded() == 12
    assert np.abs(other - first).max() > 1e-3


def test_another_image_size_is_another_graph():
    from dataclasses import replace

    wider = replace(TINY_SPEC, image_size=48)
    fingerprints = {GraphVae(spec, vae_encoder(spec)).description.fingerprint for spec in (TINY_SPEC, wider)}
    assert len(fingerprints) == 2


def test_rows_are_read_in_any_order_and_none_stays_mapped(tmp_path, paths):
    stored = of(GraphLatents(tmp_path / "cache", paths))
    np.testing.assert_array_equal(stored.read(np.array([5, 0, 5])), plain(stored)[[5, 0, 5]])
    assert "latents.bin" not in Path("/proc/self/maps").read_text()


def test_latents_of_a_temporary_graph_are_deleted_at_the_end(tmp_path, paths, encoded):
    latents = GraphLatents(tmp_path / "cache", paths)
    of(latents)
    passing = of(latents, OTHER, passing="a bundle")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    latents.done()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(StorageError):
        plain(passing)
    of(GraphLatents(tmp_path / "cache", paths))
    assert encoded() == 12


def test_latents_of_another_bundle_are_not_deleted(tmp_path, paths):
    first, second = (GraphLatents(tmp_path / "cache", paths) for _ in range(2))
    of(first, passing="a bundle")
    kept = of(second, passing="its copy")
    first.done()
    assert len(plain(kept)) == len(paths)


def test_progress_has_the_name_of_the_task(tmp_path, paths):
    seen = []
    GraphLatents(tmp_path / "cache", paths).of(
        TINY_SPEC, GRAPH, 1, task="int8 latents", progress=lambda *step: seen.append(step)
    )
    assert seen[-1] == ("int8 latents", 6, 6)


def test_a_missing_image_and_a_graph_that_can_not_be_loaded_are_errors(tmp_path, paths):
    with pytest.raises(ModelError):
        of(GraphLatents(tmp_path / "cache", paths), b"no graph")
    with pytest.raises(ImageError):
        GraphLatents(tmp_path / "cache", [*paths, tmp_path / "gone.png"])
