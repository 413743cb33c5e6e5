"""The whole way in small: every stage runs, and what it leaves is whole."""

import re
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from leakrt.cli.quickstart import quickstart
from leakrt.core.bundle import Bundle
from leakrt.core.errors import StorageError
from leakrt.core.images import find_images, read_image
from leakrt.core.progress import silent
from leakrt.demo import dataset, run
from leakrt.demo.dataset import SyntheticPlan, make_data_set
from leakrt.demo.run import DemoSizes


@pytest.mark.slow
def test_the_whole_way_ends_in_a_bundle_and_a_report_that_fetches_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "quick start"
    assert quickstart(out, seed=3, fast=True) == 0
    printed = capsys.readouterr().out
    for expected in ("verdicts on held-out pictures", "macro AUC", "false alarms", "end to end", "report:"):
        assert expected in printed
    bundle = Bundle(out / "bundle")
    assert bundle.spec.vae_kind == "sd"
    assert bundle.spec.class_names == ("nearest", "pixelshuffle", "real", "transposed")
    page = (out / "report.html").read_text()
    assert page.count("data:image/") > 20
    assert not re.search(r"(src|href)=.?(https?:)?//", page)

    pictures = [path.stat().st_mtime_ns for path in find_images(out / "data")]
    assert quickstart(out, seed=3, fast=True) == 0
    assert [path.stat().st_mtime_ns for path in find_images(out / "data")] == pictures
    (out / "data" / "train" / "real" / "0099.jpg").write_bytes(page.encode())  # as if of a larger plan
    before = Bundle(out / "bundle").provenance["data_fingerprint"]
    assert quickstart(out, seed=4, fast=True) == 0  # another seed: everything is made again, nothing is mixed
    assert Bundle(out / "bundle").provenance["data_fingerprint"] != before
    assert len(find_images(out / "data")) == len(pictures)


def test_a_restart_ignores_existing_files(tmp_path):
    plan = SyntheticPlan(size=64, train=3, val=2, test=2, generator_steps=2, seed=7)
    sizes = DemoSizes(plan=plan)
    assert run._make_data(tmp_path, plan, silent)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae.json").write_text("[12, 800, 7]")
    assert not run._make_vae(tmp_path / "data", tmp_path / "vae", sizes, progress=silent)
    asked = []

    @contextmanager
    def stop(name):
        """Stop before the first stage; whether its work would be done depends on the stamps alone."""
        asked.append((name, (tmp_path / "pictures.json").exists(), (tmp_path / "vae.json").exists()))
        raise KeyboardInterrupt
        yield

    for restart in (False, True):
        with pytest.raises(KeyboardInterrupt):
            run.run_demo(tmp_path, sizes, restart=restart, stage=stop)
    assert asked == [("make pictures", True, True), ("make pictures", False, False)]


def test_a_second_one_in_the_folder_is_refused_at_once_and_touches_nothing(tmp_path):
    from leakrt.core.locks import take

    lock = take(tmp_path / ".lock")
    (tmp_path / ".vae.x1.part").mkdir()  # what the first writes
    with pytest.raises(
        StorageError, match=r"^another quickstart is running in .*; wait for it, or choose another --out$"
    ):
        quickstart(tmp_path, seed=7, fast=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".vae.x1.part"]
    lock.release()


def test_what_a_killed_one_left_half_written_goes_when_the_next_begins(tmp_path, monkeypatch):
    (tmp_path / ".vae.x1.part").mkdir()
    for name in (".vae.json.7.part", ".pictures.json.7.part", ".report.html.7.part"):
        (tmp_path / name).write_text("half")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_demo", stop)
    with pytest.raises(KeyboardInterrupt):
        quickstart(tmp_path, seed=7, fast=True)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_made_again_where_making_others_was_cut_short(tmp_path, monkeypatch):
    first, second = (SyntheticPlan(size=64, train=3, val=2, test=2, generator_steps=2, seed=seed) for seed in (7, 8))
    assert run._make_data(tmp_path, first, silent)
    assert not run._make_data(tmp_path, first, silent)
    before = [p.read_bytes() for p in find_images(tmp_path)]

    def cut_short(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "train_generators", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run._make_data(tmp_path, second, silent)
    assert run._make_data(tmp_path, first, silent)
    assert [p.read_bytes() for p in find_images(tmp_path)] == before


def test_a_smaller_plan_leaves_no_picture_of_a_larger_one(tmp_path):
    make_data_set(tmp_path, SyntheticPlan(size=64, train=5, val=3, test=3, generator_steps=2, seed=7))
    make_data_set(tmp_path, SyntheticPlan(size=64, train=3, val=2, test=2, generator_steps=2, seed=7))
    counts = {s: len(find_images(tmp_path / "data" / s)) for s in ("train", "val", "test")}
    assert counts == {"train": 12, "val": 8, "test": 8}
    assert len(find_images(tmp_path / "open")) == 2


def test_a_plan_gives_the_same_pictures_again_and_keeps_a_scene_in_one_split(tmp_path):
    plan = SyntheticPlan(size=64, train=3, val=2, test=2, generator_steps=2, seed=7)
    for name in ("a", "b"):
        make_data_set(tmp_path / name, plan)
    first, second = find_images(tmp_path / "a"), find_images(tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    counts = {s: len(find_images(tmp_path / "a" / "data" / s)) for s in ("train", "val", "test")}
    assert counts == {"train": 12, "val": 8, "test": 8}
    assert len(find_images(tmp_path / "a" / "open")) == 2
    real = read_image(tmp_path / "a" / "data" / "test" / "real" / "0000.jpg").pixels
    copy = read_image(tmp_path / "a" / "data" / "test" / "nearest" / "0000.jpg").pixels
    assert real.shape == copy.shape == (64, 64, 3)
    assert not np.array_equal(real, copy)
