"""The labelled images of a bundle's run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bundles import TINY_SPEC, noise_image, random_bundle

pytest.importorskip("torch")
pytest.importorskip("onnx")
from PIL import Image

from leakrt.calibration.validation_images import labelled, labels_of, paths_of
from leakrt.core.bundle import Bundle
from leakrt.core.errors import DataError

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        for name in SPEC.class_names:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(noise_image(i)).save(tmp_path / "data" / split / name / f"{split}{name}{i}.png")
    return tmp_path / "data"


def test_labels_follow_their_paths(data, tmp_path):
    listing = labelled(data, Bundle(random_bundle(tmp_path / "b", spec=SPEC)))
    paths, labels = paths_of(listing, "val"), labels_of(listing, "val")
    assert [path.parent.name for path in paths] == [SPEC.class_names[k] for k in labels]
    assert (len(paths), len(set(paths) & set(paths_of(listing, "train")))) == (9, 0)


def test_other_classes_than_the_bundles_are_refused_by_name(data, tmp_path):
    bundle = Bundle(random_bundle(tmp_path / "b", spec=TINY_SPEC))
    with pytest.raises(DataError, match="not in the order"):
        labelled(data, bundle)
    (data / "val" / "smooth").rename(data / "val" / "flow")
    (data / "train" / "smooth").rename(data / "train" / "flow")
    with pytest.raises(DataError, match=r"has the classes blocky, flow, real, but the bundle has real, blocky, smooth"):
        labelled(data, bundle)
