"""Crops and the files that they were cut from: partners by name, agreement of their verdicts."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn", reason="metrics are scikit-learn's (extra train)")
from pathlib import Path

from runs import write_images

from leakrt.core.errors import DataError
from leakrt.core.spec import ModelSpec
from leakrt.core.verdict import Verdict
from leakrt.train.pairs import compare_pairs, partners

SPEC = ModelSpec(class_names=("gan", "real"), real_class="real", image_size=32)


def verdict(kind, generated, **changes):
    values = {"path": "x", "verdict": kind, "label": kind, "probability": 0.5, "log_density": -1.0} | changes
    scores = {"gan": generated, "real": 1 - generated}
    rest = {"step_weights": {}, "prototype": "", "reasons": (), "backend": "", "precision": "", "bundle": ""}
    return Verdict(**{"scores": scores, **rest, **values})


def no_face():
    return verdict("abstain", 0.0, scores={})


def broken():
    return Verdict.failed("x", "cut short", "torch", precision="fp32", bundle="")


def test_a_partner_has_the_class_and_name_of_the_crop_in_any_format(tmp_path):
    write_images(tmp_path / "files" / "real", "real", 2)
    (tmp_path / "files" / "real" / "001.png").rename(tmp_path / "files" / "real" / "001.jpeg")
    crops = [Path("a/000.jpg"), Path("a/001.jpg"), Path("a/002.jpg"), Path("b/000.jpg")]
    found = partners(crops, ["real", "real", "real", "gan"], tmp_path / "files")
    assert [path and path.name for path in found] == ["000.png", "001.jpeg", None, None]


def test_files_that_match_no_crop_or_share_a_name_are_refused(tmp_path):
    write_images(tmp_path / "real", "real", 1)
    with pytest.raises(DataError, match="has no image CLASS/NAME"):
        partners([Path("9.jpg")], ["real"], tmp_path)
    (tmp_path / "real" / "000.jpg").write_bytes((tmp_path / "real" / "000.png").read_bytes())
    with pytest.raises(DataError, match="have the same name"):
        partners([Path("000.jpg")], ["real"], tmp_path)


def test_agreement_alarms_and_what_was_left_out_are_counted():
    crops = [verdict("real", 0.1), verdict("real", 0.2), verdict("generator", 0.9), verdict("generator", 0.8)]
    files = [verdict("real", 0.2), verdict("generator", 0.7), verdict("generator", 0.6), verdict("abstain", 0.5)]
    labels = ["real", "real", "gan", "gan"]
    more = [(verdict("real", 0.1), None), (verdict("real", 0.1), no_face()), (broken(), verdict("real", 0.1))]
    found = compare_pairs(
        [*crops, *(crop for crop, _ in more)],
        [*files, *(file for _, file in more)],
        [*labels, "real", "real", "real"],
        spec=SPEC,
    )
    assert (found.pairs, found.without_partner, found.without_face, found.failed) == (4, 1, 1, 1)
    assert (found.same_verdict, found.same_label) == (0.5, 0.75)
    assert (found.crops.false_alarms, found.files.false_alarms, found.files.real_faces) == (0, 1, 2)
    assert (found.crops.auroc["gan"], found.files.auroc["gan"]) == (1.0, 0.5)
    assert found.files.abstained == 0.25


def test_without_a_single_classified_pair_nothing_is_reported():
    with pytest.raises(DataError, match="no pair was classified: of 1 files, 1 show no face"):
        compare_pairs([verdict("real", 0.1)], [no_face()], ["real"], spec=SPEC)
