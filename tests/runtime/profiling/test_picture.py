"""The picture of a profile shows the profile's values."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from leakrt.core.errors import MissingExtraError, StorageError
from leakrt.runtime.profiling.picture import draw, write_picture
from leakrt.runtime.profiling.profile import Options, profile_bundle


@pytest.fixture(scope="module")
def found(tiny):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra train)")
    return profile_bundle(tiny, Options(batches=(3, 1), seconds=0.05, threads=1, cold_starts=0))


@pytest.fixture
def figure(found, monkeypatch):
    """The picture's figure, captured before it is saved."""
    from matplotlib.figure import Figure

    kept = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k))[1])
    draw(found)
    return kept[0]


def test_the_picture_is_a_png(found):
    image = Image.open(io.BytesIO(draw(found)))
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_a_bar_for_each_stage_and_batch_reaches_to_its_median(figure, found):
    left = figure.axes[0]
    bars = [patch.get_width() for patch in left.patches]
    wanted = [max(1e-3, s.p50) for b in found.batches for s in (*b.stages.values(), b.outside, b.end_to_end)]
    assert bars == pytest.approx(wanted)
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == [*found.batches[0].stages, "outside the stages", "end to end"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["batch 3", "batch 1"]


def test_throughput_is_drawn_over_ascending_batch_sizes(figure, found):
    (line,) = figure.axes[1].get_lines()
    rates = {batch.batch: batch.images_per_second for batch in found.batches}
    assert list(line.get_xdata()) == [1, 3]
    assert list(line.get_ydata()) == pytest.approx([rates[1], rates[3]])


def test_the_title_contains_the_configuration_and_the_notes(figure, found):
    title = figure._suptitle.get_text()
    assert f"onnxruntime {found.runs.version} fp32 on {found.runs.device}" in title
    assert all(note in title for note in found.notes())


def test_a_picture_that_can_not_be_written_raises(found, tmp_path):
    with pytest.raises(StorageError, match="no such folder"):
        write_picture(tmp_path / "no such folder" / "p.png", found)
    write_picture(tmp_path / "p.png", found)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_without_matplotlib_the_error_names_the_install_command(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'leakrt\[train\]'"):
        draw(found)
