"""Folders, splits and leakage: whether what is learned and measured is what the folders say."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from leakrt.calibration.images import choose_images
from leakrt.core.errors import DataError
from leakrt.core.images import search_images
from leakrt.core.progress import silent
from leakrt.core.spec import ModelSpec
from leakrt.train.contents import NEAR, ContentCache, Seen, content_of, nearest, see_images
from leakrt.train.data import list_data, load_data
from leakrt.train.labelled import open_images
from situations.row import Inputs, Row

_SPEC = ModelSpec(class_names=("real", "gan"), real_class="real")
_QUALITIES, _SCALES = (10, 30, 50, 70, 90), (0.25, 0.5, 1.0, 2.0)
Case = Callable[[Path, "Faces"], bool]  # True: the result is right, or the case is refused with a reason


class Faces:
    """Different pictures, one after the other: faces of LeakBench, or made ones where it is not there."""

    def __init__(self, shared: Path | None) -> None:
        folder = None if shared is None else shared / "leakbench" / "train" / "real"
        self._files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        self._next = 0

    def take(self) -> Image.Image:
        """One more picture, unlike those before it for the first 280 of a case."""
        self._next += 1
        if self._files:
            return Image.open(self._files[self._next % len(self._files)]).convert("RGB")
        y, x = np.mgrid[0:96, 0:96] / 96
        waves = sum(
            np.sin(a * x + b * y + c) for a, b, c in np.random.default_rng(self._next).uniform(-25, 25, (30, 3))
        )
        return Image.fromarray(np.clip(128 + 20 * waves, 0, 255).astype(np.uint8)).convert("RGB")

    def put(self, root: Path, *names: str) -> None:
        """Different pictures as files of those names; PNG where the name says no format."""
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            self.take().save(root / name, None if Path(name).suffix in (".png", ".jpg", ".bmp") else "PNG")


def measure(inputs: Inputs) -> list[Row]:
    """Every situation in a temporary folder of its own."""
    rows = [
        _row("layouts of nested folders", _layouts(), inputs),
        _row("folder names that mean a split", _split_names(), inputs),
        _row("files that are left out or have another suffix", _left_out(), inputs),
        _row("one picture under two labels, in two splits or in --open", _leakage(), inputs),
        _row("40 JPEG qualities of one face in a calibration set", iter([_one_face]), inputs),
    ]
    if inputs.shared is not None and (inputs.shared / "leakbench").is_dir():
        rows += _likeness(inputs.shared / "leakbench", 40 if inputs.quick else 400)
        rows.append(_listing_time(inputs.shared / "leakbench"))
    return rows


def _row(situation: str, cases: Iterator[Case], inputs: Inputs) -> Row:
    tried = silent = refused = 0
    for case in cases:
        tried += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                silent += not case(Path(folder), Faces(inputs.shared))
            except DataError as error:
                refused += 1
                silent += "\n" in str(error)
    figure = f"{refused} refused in one line" if refused else ""
    return Row(situation=situation, tried=tried, silent=silent, figure=figure, target="0")


def _labels(root: Path) -> set[tuple[str, str, str]]:
    """Path, class and split of each image."""
    listing = list_data(root)
    return {(i.path.relative_to(root).as_posix(), listing.classes[i.class_index], i.split) for i in listing.items}


def _layouts() -> Iterator[Case]:
    forms = ("{maker}/{label}/{split}", "{maker}/{split}/{label}", "{split}/{maker}/{label}")
    for real, fake in (("0_real", "1_fake"), ("nature", "ai"), ("real", "fake")):
        for form in forms:
            yield lambda root, faces, real=real, fake=fake, form=form: _makers(root, faces, real, fake, form)
    yield _class_then_split
    unclear = [
        ["gan/bedroom/0_real/1.png", "gan/bedroom/1_fake/2.png"],
        ["gan/0_real/1.png", "gan/1_fake/2.png", "gan/3.png"],
        ["gan/real/1.png", "gan/other/2.png"],
        ["gan/train/1.png", "gan/test/2.png", "gan/3.png"],
        ["gan/x/train/1.png", "gan/x/test/2.png"],
        ["gan/1.png", "gan/test/2.png"],
    ]
    for names in unclear:
        yield lambda root, faces, names=names: _read_as_one(root, faces, names)


def _makers(root: Path, faces: Faces, real: str, fake: str, form: str) -> bool:
    wanted = set()
    for maker in ("biggan", "stylegan2"):
        for label, name in ((real, "real"), (fake, maker)):
            for split in ("train", "val", "test"):
                path = f"{form.format(maker=maker, label=label, split=split)}/{maker}{label}{split}.png"
                faces.put(root, path)
                wanted.add((path, name, split))
    return _labels(root) == wanted


def _class_then_split(root: Path, faces: Faces) -> bool:
    splits = ("train", "val", "test")
    wanted = {(f"{name}/{split}/{name}{split}.png", name, split) for name in ("real", "gan") for split in splits}
    faces.put(root, *(path for path, _, _ in sorted(wanted)))
    return _labels(root) == wanted


def _read_as_one(root: Path, faces: Faces, names: list[str]) -> bool:
    faces.put(root, *names, *(f"{name}/{name}{i}.png" for name in ("real", "gan") for i in range(4)))
    _labels(root)
    return False  # it was learned as one class


def _split_names() -> Iterator[Case]:
    for train, val, test in (
        ("train", "valid", "testing"),
        ("Training", "VALIDATION", "Test"),
        ("TRAIN", "dev", "test"),
    ):
        yield lambda root, faces, names=(train, val, test): _named_splits(root, faces, names)
    for other in ("valid", "eval"):
        yield lambda root, faces, other=other: _named_splits(root, faces, ("train", "val", "test", other))
    yield _split_file


def _named_splits(root: Path, faces: Faces, names: tuple[str, ...]) -> bool:
    for split in names:
        faces.put(root, f"{split}/real/{split}r.png", f"{split}/gan/{split}g.png")
    return {(name, split) for _, name, split in _labels(root)} == {
        (name, split) for name in ("real", "gan") for split in ("train", "val", "test")
    } and len(names) == 3


def _split_file(root: Path, faces: Faces) -> bool:
    faces.put(root, *(f"{name}/{name}{i}.png" for name in ("real", "gan") for i in range(2)))
    (root / "split.json").write_text(
        '{"train": {"real": ["real1.png"], "gan": ["gan1.png"]}, "dev": {"real": ["real0.png"], "gan": ["gan0.png"]}}'
    )
    return {split for path, _, split in _labels(root) if "1" in path} == {"train"}


def _left_out() -> Iterator[Case]:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)
    for name, data in (
        ("phone.heic", heic),
        ("phone", heic),
        ("photo", None),
        ("scan.dat", None),
        ("text.jpg", b"text"),
    ):
        yield lambda root, faces, name=name, data=data: _found(root, faces, name, data)
    junk = "@eaDir/SYNO.png __MACOSX/._a.png .ipynb_checkpoints/a.png Thumbs.db ._a.png notes.txt clip.mp4 .hidden.png"
    for name in junk.split():
        yield lambda root, faces, name=name: _listed(root, faces, name)
    yield _linked


def _found(root: Path, faces: Faces, name: str, data: bytes | None) -> bool:
    faces.put(root, "a.png", name)
    if data is not None:
        (root / name).write_bytes(data)
    return {path.name for path in search_images(root).images} == {"a.png", name}


def _listed(root: Path, faces: Faces, name: str) -> bool:
    faces.put(root, "a.png", name)
    if name in ("Thumbs.db", "notes.txt", "clip.mp4"):
        (root / name).write_bytes(b"\0\0\0\x18ftypisom no picture")
    found = search_images(root)
    return [path.name for path in found.images] == ["a.png"] and sum(one.files for one in found.left_out) == 1


def _linked(root: Path, faces: Faces) -> bool:
    faces.put(root, "a/a.png", "elsewhere/b.png")
    (root / "a" / "more").symlink_to(root / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    found = search_images(root / "a")
    return len(found.images) == 1 and len(found.left_out) == 2


def _leakage() -> Iterator[Case]:
    for target in ("train/gan/copy.bmp", "val/gan/copy.png", "test/real/copy.bmp", "val/real/copy.tif"):
        yield lambda root, faces, target=target: _copied(root, faces, target)
    for quality in (30, 60, 90):
        yield lambda root, faces, quality=quality: _encoded_again(root, faces, quality)
    yield lambda root, faces: (faces.put(root, "gan/a.png"), open_images(root, known=("real", "gan")))[0] is not None
    yield (
        lambda root, faces: (faces.put(root, "x/0_real/a.png"), open_images(root, known=("real", "gan")))[0] is not None
    )


def _data(root: Path, faces: Faces) -> None:
    for split in ("train", "val", "test"):
        faces.put(root, *(f"{split}/{name}/{split}{name}{i}.png" for name in ("real", "gan") for i in range(3)))


def _copied(root: Path, faces: Faces, target: str) -> bool:
    _data(root / "data", faces)
    Image.open(root / "data/train/real/trainreal0.png").save(root / "data" / target)
    loaded = load_data(list_data(root / "data"), ContentCache(root / "cache"), 2, skip_bad=False, progress=silent)
    return Path(target).name in {one.path.name for one in loaded.left_out} and len(loaded.items) == 18


def _encoded_again(root: Path, faces: Faces, quality: int) -> bool:
    _data(root / "data", faces)
    source = Image.open(root / "data/train/real/trainreal0.png")
    source.resize((source.width * 3 // 4, source.height * 3 // 4)).save(
        root / "data/test/real/again.jpg", quality=quality
    )
    loaded = load_data(list_data(root / "data"), ContentCache(root / "cache"), 2, skip_bad=False, progress=silent)
    return any("look the same as images of train" in note for note in loaded.notes)


def _one_face(root: Path, faces: Faces) -> bool:
    face = faces.take()
    for quality in range(56, 96):
        face.save(root / f"{quality}.jpg", quality=quality)
    return len(choose_images(sorted(root.iterdir()), 32, _SPEC, progress=silent, least=1).paths) == 1


def _likeness(leakbench: Path, count: int) -> list[Row]:
    """False matches between splits of LeakBench, and pictures that are found again after another encoding."""
    by_split = {s: sorted((leakbench / s).rglob("*.jpg")) for s in ("train", "val", "test")}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        everything = [path for paths in by_split.values() for path in paths]
        seen = see_images(everything, ContentCache(Path(folder)), threads=2, progress=silent)
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        see_images(everything, ContentCache(Path(folder)), threads=2, progress=silent)
        again = time.perf_counter() - begin
    looks = {path: one.content.look for path, one in zip(everything, seen, strict=True) if isinstance(one, Seen)}
    false = pairs = 0
    for ours, theirs in (("val", "train"), ("test", "train"), ("test", "val")):
        matches = nearest([looks[p] for p in by_split[ours]], [looks[p] for p in by_split[theirs]])
        false += sum(j >= 0 for j in matches)
        pairs += len(by_split[ours]) * len(by_split[theirs])
    chosen = sorted(everything, key=lambda p: hashlib.sha256(p.as_posix().encode()).digest())[:count]
    missed = np.sum([_missed(path, looks[path]) for path in chosen], axis=0)
    tried = len(chosen) * len(_QUALITIES) * len(_SCALES)
    return [
        Row(
            situation=f"pictures of different splits taken for the same (up to {NEAR} of 256 bits)",
            tried=pairs,
            figure=f"{false} images",
            target="0",
            met=false == 0,
        ),
        Row(
            situation="a picture at another JPEG quality (30 to 90, and 10) and size (0.25 to 2) is found again",
            tried=tried,
            figure=f"{missed[1:].sum()} missed, and {missed[0]} at quality 10",
            target="0, but at quality 10",
            met=not missed[1:].any(),
        ),
        Row(
            situation="reading LeakBench with hashes of its pixels, once and from the cache",
            tried=len(everything),
            figure=f"{first:.1f} s, then {again:.1f} s",
        ),
    ]


def _missed(path: Path, look: str) -> list[int]:
    """How often the picture is not found again, by quality."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    missed = [0] * len(_QUALITIES)
    with tempfile.TemporaryDirectory() as folder:
        for scale in _SCALES:
            small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
            for k, quality in enumerate(_QUALITIES):
                small.save(Path(folder, "again.jpg"), quality=quality)
                with Image.open(Path(folder, "again.jpg")) as again:
                    found = content_of(np.ascontiguousarray(np.asarray(again)[:, :, ::-1])).look
                missed[k] += nearest([found], [look]) != [0]
    return missed


def _listing_time(leakbench: Path) -> Row:
    begin = time.perf_counter()
    found = search_images(leakbench)
    figure = f"{time.perf_counter() - begin:.2f} s"
    return Row(situation="listing LeakBench", tried=len(found.images), figure=figure)
