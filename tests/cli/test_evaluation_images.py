"""A bundle's labelled images, and those that failed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from leakrt.cli.evaluation_images import choose, tell_failures, trained_bundle
from leakrt.core.bundle import Bundle
from leakrt.core.errors import DataError
from leakrt.core.verdict import Verdict


def failed(count):
    return [
        Verdict.failed(f"{i}.png", f"{i}.png: broken\n\x1b[31mred", "b", precision="fp32", bundle="x")
        for i in range(count)
    ]


def test_ten_failures_are_named_and_the_rest_are_counted(capsys):
    tell_failures(failed(13))
    err = capsys.readouterr().err
    assert err.count("\n") == 11
    assert "leakrt: error: 9.png: broken" in err
    assert "10.png" not in err
    assert err.endswith("leakrt: 3 more images failed\n")
    assert "\x1b" not in err


def test_where_all_were_judged_nothing_is_said(capsys):
    judged = Verdict("a.png", "real", "real", 0.9, 0.0, {"real": 0.9}, {}, "real/0", ("why",), "b", "fp32", "x")
    tell_failures([judged])
    assert capsys.readouterr().err == ""


@pytest.fixture
def classes(image_folder, tmp_path):
    """A folder of the tiny bundle's three classes, 20 images each, not split."""
    root = tmp_path / "data"
    root.mkdir()
    for i, name in enumerate(("real", "blocky", "smooth")):
        folder = image_folder(20, f"made{i}")
        for n, file in enumerate(sorted(folder.iterdir())):
            file.write_bytes(file.read_bytes() + bytes([i, n]))  # no picture is in two classes
        folder.rename(root / name)
    return root


def test_classes_that_the_bundle_does_not_know_are_refused(classes, tiny, tmp_path):
    bundle = Bundle(tiny)
    (classes / "blocky").rename(classes / "other")
    with pytest.raises(DataError, match="other"):
        choose(bundle.spec, trained_bundle(bundle), classes, split="all", open_set=None, cache=tmp_path / "cache")
