"""The evidence behind a verdict."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import ImageError, StorageError, UsageError
from leakrt.core.images import find_images, read_image
from leakrt.runtime.explain import explain, explain_stream


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny)


def test_the_evidence_sums_to_the_difference_of_the_gated_distances(detector, image_folder):
    (analysis,) = detector.analyse(find_images(image_folder(1))[0])
    found = explain(detector, analysis)
    outputs, names = analysis.evidence.outputs, detector.spec.class_names
    distances = detector.support.nearest_prototypes(outputs.embedding[0], outputs.gates[0]).min(axis=1)
    margin = distances[names.index(found.runner_up)] - distances[names.index(found.winner)]
    assert len(found.gates) == 12  # every dimension of this bundle
    assert sum(gate.evidence for gate in found.gates) == pytest.approx(margin, rel=1e-5)
    sizes = [abs(gate.evidence) for gate in found.gates]
    assert sizes == sorted(sizes, reverse=True)
    for gate in found.gates:
        assert gate.gate == pytest.approx(float(outputs.gates[0, gate.dimension]))


def test_winner_and_runner_up_follow_the_verdict(detector, image_folder):
    for path in find_images(image_folder(6)):
        (analysis,) = detector.analyse(path)
        found, shares = explain(detector, analysis), analysis.verdict.scores
        if analysis.verdict.verdict in ("real", "generator"):
            assert found.winner == analysis.verdict.label
        else:
            assert found.winner == max(shares, key=shares.get)
        others = {name: share for name, share in shares.items() if name != found.winner}
        assert found.runner_up == max(others, key=others.get)
        assert [prototype.split("/")[0] for prototype, _ in found.exemplars] == [found.winner, found.runner_up]


def test_the_bundles_exemplars_are_shown(detector, image_folder):
    for path in find_images(image_folder(8)):
        for prototype, files in explain(detector, detector.analyse(path)[0]).exemplars:
            assert len(files) == (1 if prototype.endswith("/0") else 0)


def test_where_nothing_ran_there_is_nothing_to_explain(detector, tmp_path):
    (analysis,) = detector.analyse(tmp_path / "none.png")
    with pytest.raises(ImageError, match="nothing to explain"):
        explain(detector, analysis)


def test_a_folder_of_pictures_has_one_for_each_readable_image(detector, image_folder, tmp_path):
    folder = image_folder(3)
    (folder / "0001.png").write_bytes(b"")
    paths = find_images(folder)
    verdicts = list(explain_stream(detector, paths, tmp_path / "out" / "deep"))
    assert [v.scores for v in verdicts] == [v.scores for v in detector.check_stream(paths)]
    written = sorted((tmp_path / "out" / "deep").iterdir())
    assert [file.name for file in written] == ["00000-0000.png", "00002-0002.png"]
    assert read_image(written[0]).pixels.shape == (860, 1240, 3)


def test_one_image_can_have_a_file_of_its_own(detector, image_folder, tmp_path):
    list(explain_stream(detector, find_images(image_folder(1)), tmp_path / "why.PNG"))
    assert np.any(read_image(tmp_path / "why.PNG").pixels != 255)


def test_one_file_for_several_images_is_wrong_usage(detector, image_folder, tmp_path):
    with pytest.raises(UsageError, match="is one picture for 2 images; name a folder"):
        explain_stream(detector, find_images(image_folder(2)), tmp_path / "x.png")


def test_a_place_that_can_not_be_written_is_told_before_anything_runs(detector, image_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't write"):
        explain_stream(detector, find_images(image_folder(1)), tmp_path / "file" / "out")
