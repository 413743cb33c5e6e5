"""The quickstart's report: every figure in it, whole by itself, and nothing of a name or reason read as HTML."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
from bundles import noise_image
from PIL import Image

from leakrt import Detector
from leakrt.core.bundle import Bundle
from leakrt.core.errors import StorageError
from leakrt.core.images import find_images
from leakrt.demo.report import write_report
from leakrt.demo.run import DemoResult
from leakrt.train.evaluation import evaluate

SHOWN = ("real", "transposed", "nearest", "pixelshuffle")
LATENCY = {"vae_encoder": (1.234, 2.345, 3.456), "<b>end to end</b>": (4.0, 5.0, 6.0)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Squares of noise where the quickstart has its test pictures."""
    out = tmp_path_factory.mktemp("quickstart")
    for k, folder in enumerate([*(f"data/test/{name}" for name in SHOWN), "open/unseen"]):
        (out / folder).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(noise_image(10 * k + i, size=64)[:, :64]).save(out / folder / f"{i:04d}.jpg", quality=95)
    return out


@pytest.fixture(scope="module")
def result(pictures, tiny):
    detector = Detector.load(tiny)
    closed = list(detector.check_stream(find_images(pictures / "data")))
    unseen = list(detector.check_stream(find_images(pictures / "open")))
    labels = tuple(detector.spec.class_names[i % 3] for i in range(len(closed)))
    figures = evaluate(closed, labels, unseen, spec=detector.spec, decision=Bundle(tiny).decisions["fp32"])
    return DemoResult(
        evaluation=figures,
        closed=tuple(closed),
        labels=labels,
        unseen=tuple(unseen),
        latency=LATENCY,
        detector=detector,
    )


class Page(HTMLParser):
    """Tags, texts and attributes of a page; fails on a tag that is closed before it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.texts, self.links, self.sources, self.tags = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.links += [values[name] for name in ("href", "srcset", "data") if name in values]
        self.sources += [values["src"]] if "src" in values else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page(pictures, result) -> Page:
    return Page(write_report(pictures, result).read_text())


def test_it_holds_each_figure_of_the_evaluation(pictures, result):
    text = " ".join(page(pictures, result).texts)
    closed, decision = result.evaluation.closed, result.evaluation.decision
    for figure in (
        f"{closed.macro_auc:.3f}",
        f"{closed.balanced_accuracy:.3f}",
        f"{decision.false_alarm_count} of {decision.real_faces}",
        f"{100 * decision.coverage:.0f} %",
        f"{100 * decision.generated_called_generated:.0f} %",
        f"{100 * result.evaluation.open.called_generated:.0f} %",
        "1.23",
        "2.35",
        "6.00",
    ):
        assert figure in text
    for name in (*SHOWN, "unseen"):
        assert name in text


def test_its_tags_are_whole_and_all_its_pictures_are_inside_and_can_be_read(pictures, result):
    found = page(pictures, result)
    assert found.open in ([], ["html"], ["html", "body"])
    assert found.links == []
    sizes = []
    for source in found.sources:
        kind, data = re.fullmatch(r"data:image/(jpeg|png);base64,(.+)", source).groups()
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert image.format.lower() == kind
            image.load()
            sizes.append(image.size)
    assert sizes.count((64, 64)) == 5 * 6 + 5  # six pictures and a spectrum of each of five makers
    assert len(sizes) >= 35 + 3 + 4  # and plots, and an explanation of each class and of the unseen


def test_pictures_are_those_that_lie_there(pictures, result):
    first = find_images(pictures / "data" / "test" / "real")[0].read_bytes()
    assert f"data:image/jpeg;base64,{base64.b64encode(first).decode()}" in page(pictures, result).sources


def test_nothing_from_outside_becomes_a_tag(pictures, result):
    found = page(pictures, result)
    assert "<b>end to end</b>" in found.texts  # a stage's name, as text
    assert "script" not in found.tags


def test_a_report_replaces_the_one_before(pictures, result):
    (pictures / "report.html").write_text("old")
    faster = replace(result, latency={"vae_encoder": (9.87, 9.88, 9.89)})
    assert "9.87" in write_report(pictures, faster).read_text()
    assert [p.name for p in pictures.iterdir() if p.name.endswith(".part")] == []


def test_a_place_that_can_not_be_written_is_a_storage_error(pictures, result):
    (pictures / "report.html").unlink(missing_ok=True)
    (pictures / "report.html").mkdir()
    try:
        with pytest.raises(StorageError, match=r"can't write .*report\.html"):
            write_report(pictures, result)
    finally:
        (pictures / "report.html").rmdir()


def test_an_evaluation_without_an_open_set_has_a_dash(pictures, result, tiny):
    alone = evaluate(
        result.closed, result.labels, [], spec=result.detector.spec, decision=Bundle(tiny).decisions["fp32"]
    )
    assert "-" in page(pictures, replace(result, evaluation=alone)).texts
