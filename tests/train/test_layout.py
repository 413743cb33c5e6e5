"""The layouts of a data folder, and the splits that LeakRT draws."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from leakrt.core.errors import DataError
from leakrt.train.layout import read_layout


def put(root: Path, *names: str) -> None:
    """Write empty files: reading a layout opens no image."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def put_classes(root: Path, **counts: int) -> None:
    for name, count in counts.items():
        put(root, *(f"{name}/{name}_{i:03d}.png" for i in range(count)))


def assigned(root: Path) -> dict[str, tuple[str, str]]:
    found = read_layout(root).images
    return {a.path.relative_to(root).as_posix(): (a.class_name, a.split) for a in found}


def split_counts(root: Path) -> Counter:
    return Counter(assigned(root).values())


def test_split_folders_are_used_and_folders_beside_them_ignored(tmp_path):
    put(tmp_path, "train/a/1.jpg", "val/a/2.JPG", "test/b/deep/3.png", "open/c/4.png", "train/a/notes.txt")
    assert assigned(tmp_path) == {
        "train/a/1.jpg": ("a", "train"),
        "val/a/2.JPG": ("a", "val"),
        "test/b/deep/3.png": ("b", "test"),
    }


def test_a_class_may_be_named_train_where_no_other_split_is(tmp_path):
    put_classes(tmp_path, train=5, plane=5)
    assert {name for name, _ in assigned(tmp_path).values()} == {"train", "plane"}


def left_out(root: Path) -> dict[str, str]:
    return {one.path.relative_to(root).as_posix(): one.reason for one in read_layout(root).left_out}


@pytest.mark.parametrize("names", ["train valid testing", "Training VAL Test", "TRAIN dev test", "train Validation x"])
def test_folder_names_mean_a_split_in_any_case_as_in_the_split_file(tmp_path, names):
    train, val, test = names.split()
    put(tmp_path, f"{train}/a/1.jpg", f"{val}/a/2.jpg", f"{test}/a/3.jpg")
    found = {split for _, split in assigned(tmp_path).values()}
    assert found == ({"train", "val"} if test == "x" else {"train", "val", "test"})
    assert left_out(tmp_path) == ({"x": "folders beside the splits"} if test == "x" else {})


def test_two_folders_that_mean_one_split_are_refused(tmp_path):
    put(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "valid/a/3.jpg")
    with pytest.raises(DataError, match=r"val and .*valid both mean val; merge them or rename one"):
        read_layout(tmp_path)


def test_a_folder_that_could_mean_two_splits_is_refused(tmp_path):
    put(tmp_path, "train/a/1.jpg", "eval/a/2.jpg", "val/a/3.jpg")
    with pytest.raises(DataError, match="eval could mean val or test; rename it"):
        read_layout(tmp_path)


def test_splits_below_each_class_are_used(tmp_path):
    put(tmp_path, *(f"{c}/{s}/{s}{c}.jpg" for c in ("real", "gan") for s in ("train", "Val", "test")))
    assert split_counts(tmp_path) == {(c, s): 1 for c in ("real", "gan") for s in ("train", "val", "test")}


@pytest.mark.parametrize("labels", [("0_real", "1_fake"), ("nature", "ai"), ("Real", "Fake")])
@pytest.mark.parametrize("form", ["{maker}/{label}/{split}", "{maker}/{split}/{label}", "{split}/{maker}/{label}"])
def test_labels_below_makers_are_read_as_real_and_as_the_maker(tmp_path, labels, form):
    for maker in ("biggan", "stylegan2"):
        for label in labels:
            for split in ("train", "val", "test"):
                folder = form.format(maker=maker, label=label, split=split)
                put(tmp_path, f"{folder}/{maker}{split}{label}.png")
    found = split_counts(tmp_path)
    assert found == {
        (c, s): n for c, n in (("real", 2), ("biggan", 1), ("stylegan2", 1)) for s in ("train", "val", "test")
    }
    assert all((name == "real") == (labels[0] in Path(path).parts) for path, (name, _) in assigned(tmp_path).items())
    (note,) = read_layout(tmp_path).notes
    assert "biggan, stylegan2" in note


def test_makers_with_labels_are_split_as_classes_are(tmp_path):
    for maker in ("biggan", "stylegan2"):
        put(tmp_path, *(f"{maker}/{label}/{maker}{label}{i}.png" for label in ("0_real", "1_fake") for i in range(20)))
    counts = split_counts(tmp_path)
    assert [counts["real", s] for s in ("train", "val", "test")] == [28, 6, 6]
    assert [counts["biggan", s] for s in ("train", "val", "test")] == [14, 3, 3]


@pytest.mark.parametrize(
    "names",
    [
        ["stylegan2/0_real/1.png", "stylegan2/other/2.png"],
        ["stylegan2/0_real/1.png", "stylegan2/1_fake/2.png", "stylegan2/3.png"],
        ["stylegan2/bedroom/0_real/1.png", "stylegan2/bedroom/1_fake/2.png"],
        ["stylegan2/a/b/nature/1.png", "stylegan2/a/b/ai/2.png", "stylegan2/4.png"],
        ["stylegan2/real/1.png", "stylegan2/gan/2.png"],
        ["real/0_real/1.png", "real/1_fake/2.png"],
        ["gan/train/1.png", "gan/val/2.png", "gan/3.png"],
        ["gan/train/1.png", "gan/val/2.png", "gan/other/3.png"],
        ["gan/deep/train/1.png", "gan/deep/test/2.png"],
        ["gan/train/1.png", "gan/train/val/2.png"],
        ["gan/1.png", "gan/test/2.png"],
        ["train/gan/train/1.png", "train/gan/test/2.png", "val/gan/3.png"],
    ],
)
def test_a_class_with_splits_or_labels_in_another_form_is_refused(tmp_path, names):
    put(tmp_path, *names)
    with pytest.raises(
        DataError, match=r"^class \w+: .* holds \{.*\}( beside images)?, which are not one class; expected .*MAKER"
    ) as error:
        read_layout(tmp_path)
    assert "\n" not in str(error.value)


def test_a_class_that_is_split_beside_one_that_is_not_is_refused(tmp_path):
    put(tmp_path, "real/train/1.png", "real/val/2.png", "gan/1.png", "gan/2.png", "gan/3.png")
    with pytest.raises(DataError, match="class real is split by folders and class gan is not"):
        read_layout(tmp_path)


def test_ordinary_folders_below_a_class_belong_to_it(tmp_path):
    names = ["00000/1.png", "01000/2.png", "Dev Patel/3.png", "Anna/4.png", "dev/5.png", "Anna/b/nature/6.png", "7.png"]
    put(tmp_path, *(f"{c}/{name}" for c in ("real", "gan") for name in names))
    assert Counter(name for name, _ in assigned(tmp_path).values()) == {"real": 7, "gan": 7}


def test_other_files_are_listed_with_a_reason(tmp_path):
    put_classes(tmp_path, a=5, b=5)
    put(
        tmp_path, "a/notes.txt", "a/@eaDir/a_001.png/SYNO.jpg", "__MACOSX/a/._1.png", ".git/x", "loose.png", "readme.md"
    )
    assert left_out(tmp_path) == {
        ".git": "in .git",
        "__MACOSX": "in __MACOSX",
        "a/@eaDir": "in @eaDir",
        "a/notes.txt": "not images",
        "loose.png": "images beside the folders",
    }


def test_each_class_is_split_70_15_15(tmp_path):
    put_classes(tmp_path, a=40, b=100, c=7)
    counts = split_counts(tmp_path)
    assert [counts["a", s] for s in ("train", "val", "test")] == [28, 6, 6]
    assert [counts["b", s] for s in ("train", "val", "test")] == [70, 15, 15]
    assert [counts["c", s] for s in ("train", "val", "test")] == [5, 1, 1]


def test_files_of_one_picture_stay_in_one_split_and_the_shares_are_kept(tmp_path):
    put(tmp_path, *(f"{name}/{i:03d}.{end}" for name, end in (("a", "png"), ("b", "jpg")) for i in range(41)))
    put(tmp_path, *(f"b/own{i}.png" for i in range(19)))
    put(tmp_path, *(f"c/{i:03d}.png" for i in range(0, 41, 2)))
    splits = defaultdict(set)
    for path, (_, split) in assigned(tmp_path).items():
        splits[Path(path).stem].add(split)
    assert all(len(found) == 1 for found in splits.values())
    counts = split_counts(tmp_path)
    for name, total in (("a", 41), ("b", 60), ("c", 21)):
        assert abs(counts[name, "val"] - 0.15 * total) <= 2
        assert abs(counts[name, "test"] - 0.15 * total) <= 2


def test_the_same_files_are_split_identically_in_any_folder(tmp_path):
    put_classes(tmp_path / "here", a=30, b=30)
    put_classes(tmp_path / "there", b=30, a=30)
    assert assigned(tmp_path / "here") == assigned(tmp_path / "there")


def test_a_class_too_small_to_split_is_named(tmp_path):
    put_classes(tmp_path, a=30, b=2)
    with pytest.raises(DataError, match="class b has 2 images; at least 3"):
        read_layout(tmp_path)


def test_hidden_folders_are_not_classes(tmp_path):
    put_classes(tmp_path, a=5, b=5)
    put(tmp_path, ".thumbnails/1.png")
    assert {name for name, _ in assigned(tmp_path).values()} == {"a", "b"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "holds no folders"),
        (lambda root: put(root, "1.png", "2.png"), "holds no folders"),
        (lambda root: put(root, "a/1.png", "b/readme.txt"), r"class b: .* holds no images"),
    ],
)
def test_a_folder_that_is_not_a_data_set_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message) as error:
        read_layout(tmp_path / "data")
    assert "\n" not in str(error.value)


def write_split(root: Path, data: object) -> None:
    (root / "Split.json").write_text(data if isinstance(data, str) else json.dumps(data))


def test_images_that_a_split_file_does_not_list_are_left_out(tmp_path):
    put(tmp_path, "a/1.png", "a/sub/2.png", "a/3.png", "b/1.png", "c/1.png")
    write_split(tmp_path, {"seed": 7, "train": {"a": ["1.png"], "b": ["1.png"]}, "validation": {"a": ["sub/2.png"]}})
    assert assigned(tmp_path) == {
        "a/1.png": ("a", "train"),
        "b/1.png": ("b", "train"),
        "a/sub/2.png": ("a", "val"),
    }
    assert left_out(tmp_path) == {"a/3.png": "not in Split.json", "c/1.png": "not in Split.json"}


def test_a_split_file_is_found_in_any_case_and_two_are_refused(tmp_path):
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "split.JSON").write_text('{"train": {"a": ["2.png"]}, "dev": {"b": ["1.png"]}}')
    assert assigned(tmp_path) == {"a/2.png": ("a", "train"), "b/1.png": ("b", "val")}
    write_split(tmp_path, {"train": {"a": ["1.png"]}})
    with pytest.raises(DataError, match=r"holds Split.json and split.JSON; keep only one of them"):
        read_layout(tmp_path)


def test_a_split_file_may_give_positions_in_each_class(tmp_path):
    put(tmp_path, "a/B.png", "a/a.png", "a/c.png", "b/1.png", "b/2.png", "b/3.png")
    write_split(tmp_path, {"train": [0], "val": [1], "test": [2]})
    found = assigned(tmp_path)
    assert found["a/a.png"] == ("a", "train")
    assert found["a/B.png"] == ("a", "val")
    assert found["b/3.png"] == ("b", "test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "can't be read as JSON"),
        ("[" * 100_000, "can't be read as JSON"),
        ([], "must be an object"),
        ({}, "lists no images"),
        ({"trian": {"a": ["1.png"]}}, "no split is named 'trian'"),
        ({"train": {"a": "1.png"}}, "needs a list of file names"),
        ({"train": {"a": [1]}}, "needs a list of file names"),
        ({"train": {"a": ["gone.png"]}}, "lists a/gone.png, which does not exist"),
        ({"train": {"a": ["../../secret.png"]}}, "is not in the folder of its class"),
        ({"train": {"a": ["/etc/passwd"]}}, "is not in the folder of its class"),
        ({"train": {"../b": ["1.png"]}}, "is not in the folder of its class"),
        ({"train": {"a": ["1.png\0"]}}, "is not in the folder of its class"),
        ({"train": {"a": ["1.png"]}, "test": {"a": ["1.png"]}}, "is in train and in test"),
        ({"train": [0], "val": [5]}, "5 is not a position in class a"),
        ({"train": [True]}, "True is not a position"),
        ({"val": {"a": ["1.png"]}, "dev": {"a": ["2.png"]}}, "'val' and 'dev' both mean val"),
    ],
)
def test_an_invalid_split_file_is_refused_in_one_line(tmp_path, data, message):
    put(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    write_split(tmp_path, data)
    with pytest.raises(DataError, match=message) as error:
        read_layout(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inside", ["real/fake", "real/Fake", "real/deep/1_fake", "real/AI", "real/gan", "gan/x/Real"])
def test_a_folder_below_a_class_that_is_named_as_another_class_or_label_is_refused(tmp_path, inside):
    put_classes(tmp_path, real=6, gan=6)
    put(tmp_path, *(f"{inside}/{i}.png" for i in range(6)))
    with pytest.raises(DataError, match=r"which are not one class"):
        read_layout(tmp_path)


@pytest.mark.parametrize("inside", ["real/nature", "gan/fake", "gan/faces", "real/aircraft"])
def test_other_folders_below_a_class_belong_to_it(tmp_path, inside):
    put_classes(tmp_path, real=6, gan=6)
    put(tmp_path, *(f"{inside}/{i}.png" for i in range(6)))
    assert len(read_layout(tmp_path).images) == 18


@pytest.mark.parametrize("names", [("real", "Real"), ("real", "real "), ("caf\u00e9", "cafe\u0301")])
def test_two_classes_whose_names_look_alike_are_refused(tmp_path, names):
    put_classes(tmp_path, gan=6)
    for name in names:
        put(tmp_path, *(f"{name}/{i}.png" for i in range(6)))
    with pytest.raises(DataError, match="have names that look alike; merge them or rename one"):
        read_layout(tmp_path)


def test_a_split_file_with_a_repeated_key_is_refused(tmp_path):
    put_classes(tmp_path, a=3)
    (tmp_path / "Split.json").write_text('{"train": {"a": ["a_000.png"]}, "val": {}, "train": {"a": ["a_001.png"]}}')
    with pytest.raises(DataError, match="the key 'train' is repeated"):
        read_layout(tmp_path)


def test_a_link_to_itself_in_a_class_folder_is_an_unreadable_image(tmp_path):
    put_classes(tmp_path, real=6, gan=6)
    (tmp_path / "real" / "loop.jpg").symlink_to("loop.jpg")
    assert "real/loop.jpg" in assigned(tmp_path)
