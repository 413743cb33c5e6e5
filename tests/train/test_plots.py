"""Plots of an evaluation."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from leakrt.core.errors import StorageError
from leakrt.train.evaluation import ClosedResults, OpenResults
from leakrt.train.plots import draw_confusion, draw_open_set, draw_reliability, draw_roc, write_plots


def results(classes: int, each: int = 12) -> ClosedResults:
    rng = np.random.default_rng(classes)
    labels = np.repeat(np.arange(classes), each)
    shares = rng.dirichlet(np.ones(classes), len(labels))
    names = tuple(f"maker_{k}" for k in range(classes))
    return ClosedResults(
        probabilities=shares,
        labels=labels,
        log_density=rng.standard_normal(len(labels)),
        kinds=("real",) * len(labels),
        class_names=names,
    )


OPEN = OpenResults(np.linspace(0.2, 0.6, 21), np.linspace(-3, 0, 21), ("unknown",) * 21)
NO_OPEN = OpenResults(np.empty(0), np.empty(0), ())


def test_every_plot_is_a_png_that_is_not_blank(tmp_path):
    files = write_plots(tmp_path / "deep" / "plots", results(3), OPEN)
    assert [file.name for file in files] == ["confusion.png", "roc.png", "reliability.png", "open_set.png"]
    for file in files:
        pixels = np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("L"))
        assert min(pixels.shape) > 400
        assert pixels.std() > 10


def test_without_open_images_there_is_no_open_set_plot(tmp_path):
    names = {file.name for file in write_plots(tmp_path, results(2), NO_OPEN)}
    assert "open_set.png" not in names
    assert not matplotlib.rcParams["interactive"]


def test_more_classes_than_colours_are_drawn(tmp_path):
    assert write_plots(tmp_path, results(23), NO_OPEN)


def test_confusion_shows_the_percentages_of_each_row():
    axes = Figure().add_subplot()
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.9, 0.1]])
    draw_confusion(
        axes,
        ClosedResults(
            probabilities=shares,
            labels=np.array([0, 0, 1, 1]),
            log_density=np.zeros(4),
            kinds=("real",) * 4,
            class_names=("a", "b"),
        ),
    )
    assert [text.get_text() for text in axes.texts] == ["100", "0", "50", "50"]


def test_legends_state_the_areas():
    closed, axes = results(2), Figure().add_subplot()
    draw_roc(axes, closed)
    assert [t.get_text().split()[0] for t in axes.get_legend().get_texts()] == ["maker_0", "maker_1"]
    axes = Figure().add_subplot()
    draw_open_set(axes, closed, OPEN)
    assert any("log-density" in t.get_text() for t in axes.get_legend().get_texts())


def test_reliability_draws_only_filled_bins():
    axes, closed = Figure().add_subplot(), results(2)
    draw_reliability(axes, closed)
    line = next(line for line in axes.lines if line.get_label() == "accuracy")
    assert np.all(np.asarray(line.get_xdata()) >= 0.5)  # the likeliest of two classes has at least 0.5


def test_a_folder_that_can_not_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_plots(tmp_path / "file" / "plots", results(2), NO_OPEN)


def test_only_files_left_by_a_killed_writer_are_removed(tmp_path):
    for name in (".roc.png.7.part", ".mine.png.7.part"):
        (tmp_path / name).write_text("half")
    write_plots(tmp_path, results(2), NO_OPEN)
    assert [path.name for path in tmp_path.glob(".*")] == [".mine.png.7.part"]
