"""Exporting and importing engine folders: signatures, integrity, and all-or-nothing installation."""

from __future__ import annotations

import json
import os

import pytest

from leakrt.core.errors import EngineError, StorageError
from leakrt.core.progress import silent

pytest.importorskip("cryptography", reason="signatures need cryptography (extra rtx)")
NO_KEYS = frozenset[str]()


@pytest.fixture
def signer():
    from leakrt.engines.cache.signing import Signer

    return Signer.own()


@pytest.fixture
def portable():
    """Two (record, engine) pairs that any machine may install."""
    from dataclasses import replace

    from leakrt.core.files import sha256_bytes
    from leakrt.engines.build.derive import RECIPE
    from leakrt.engines.cache.key import EngineKey
    from leakrt.engines.cache.record import EngineRecord
    from leakrt.engines.library.device import NO_DEVICE

    key = EngineKey(
        graph="vae_encoder", precision="fp16", source="a" * 64, onnx="b" * 64, tensors=(), batches=(1,),
        flavour="tensorrt-rtx", version=_installed(), flags=(), level=3, workspace=0, dla_core=-1, device=NO_DEVICE,
        targets=("default",), recipe=RECIPE,
    )  # fmt: skip
    return [
        (
            EngineRecord(
                key=replace(key, graph=g),
                sha256=sha256_bytes(d),
                size=len(d),
                created="2026",
                seconds=1.0,
                leakrt="0.1.0",
                bundle="id",
                memory={},
                layers=(),
                compiled=(),
                warnings=(),
                parity=(),
            ),
            d,
        )
        for g, d in (("vae_encoder", b"first engine"), ("leak_encoder", b"second"))
    ]


def _installed() -> str:
    from leakrt.engines.library.installed import installed_flavours

    return next((f.version for f in installed_flavours() if f.name == "tensorrt-rtx"), "1.7.1")


@pytest.fixture
def folder(tmp_path, cache, signer, portable):
    """A signed folder with both engines."""
    return write(tmp_path / "carried", cache, portable, signer)


def write(path, cache, portable, signer):
    from leakrt.engines.carry import write_folder

    for record, data in portable:
        cache.store(record, data)
    write_folder(path, [record for record, _ in portable], cache, signer=signer)
    return path


def elsewhere(tmp_path):
    from leakrt.engines.cache.cache import EngineCache

    return EngineCache(tmp_path / "elsewhere", 1 << 30)


def test_a_signed_folder_reaches_another_cache(folder, signer, portable, tmp_path):
    from leakrt.engines.carry import add_engines, read_folder

    there = elsewhere(tmp_path)
    add_engines(read_folder(folder, frozenset({signer.public_key}), False), there, silent)
    for record, data in portable:
        assert there.read(record) == data


def test_an_untrusted_key_is_refused_with_the_command_that_trusts_it(folder, signer):
    from leakrt.engines.carry import read_folder

    with pytest.raises(EngineError, match=f"not a trusted key.*leakrt engines add .* --key {signer.public_key}"):
        read_folder(folder, NO_KEYS, True)


def test_an_unsigned_folder_must_be_allowed_explicitly(tmp_path, cache, portable):
    from leakrt.engines.carry import read_folder

    path = write(tmp_path / "unsigned", cache, portable, None)
    with pytest.raises(EngineError, match=r"not signed.*--unsigned"):
        read_folder(path, NO_KEYS, False)
    assert len(read_folder(path, NO_KEYS, True)) == 2


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("vae_encoder.fp16.engine", _flip, "SHA-256 differs"),
        ("vae_encoder.fp16.engine", lambda p: p.write_bytes(p.read_bytes()[:-1]), "SHA-256 differs"),
        ("vae_encoder.fp16.json", _flip, "SHA-256 differs"),
        ("leak_encoder.fp16.engine", os.unlink, "can't be read"),
        ("engines.sig", _flip, "the signature doesn't match key"),
        ("engines.sig", os.unlink, "can't be read"),
        ("engines.json", os.unlink, "give a folder written by `leakrt build --out`"),
        ("engines.json", lambda p: p.write_text("{}"), "is damaged"),
        (
            "engines.json",
            lambda p: p.write_text(p.read_text().replace("vae_encoder.fp16.e", "x")),
            "is not an engine file|dam",
        ),
        ("engines.json", lambda p: p.write_text(p.read_text().replace("\n", "\n ")), "the signature doesn't match key"),
    ],
)
def test_a_changed_folder_is_refused(folder, signer, name, damage, words):
    from leakrt.engines.carry import read_folder

    damage(folder / name)
    with pytest.raises(EngineError, match=words):
        read_folder(folder, frozenset({signer.public_key}), False)


@pytest.mark.parametrize("name", ["../../x.engine", "/etc/passwd", "vae_encoder.fp16.so"])
def test_a_file_name_outside_the_folder_is_refused(folder, name):
    from leakrt.engines.carry import read_folder

    manifest = json.loads((folder / "engines.json").read_text())
    manifest["files"][name], manifest["signer"] = "a" * 64, ""
    (folder / "engines.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="is not an engine file"):
        read_folder(folder, NO_KEYS, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_refused_without_blocking(folder, signer):
    from leakrt.engines.carry import read_folder

    for name in ("engines.sig", "engines.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(EngineError, match=rf"{name} can't be read \(not a regular file\)"):
            read_folder(folder, frozenset({signer.public_key}), False)


def test_a_link_is_not_followed(folder, signer, tmp_path):
    from leakrt.engines.carry import read_folder

    target = folder / "vae_encoder.fp16.engine"
    target.rename(tmp_path / "moved")
    target.symlink_to(tmp_path / "moved")
    with pytest.raises(EngineError, match="is a symbolic link"):
        read_folder(folder, frozenset({signer.public_key}), False)


def test_an_engine_for_another_version_prevents_the_whole_import(portable, tmp_path, rtx):
    from dataclasses import replace

    from leakrt.engines.carry import Carried, add_engines

    (first, data), (second, more) = portable
    stale = replace(second, key=replace(second.key, version="0.9"))
    there = elsewhere(tmp_path)
    with pytest.raises(EngineError, match=f"built with tensorrt-rtx 0.9, and {rtx.version} is installed"):
        add_engines([Carried(first, data), Carried(stale, more)], there, silent)
    assert there.engines() == []


def test_an_engine_of_another_leakrt_version_is_not_installed(portable, tmp_path, rtx):
    """A runtime only looks for engines built from the graphs that its own version derives."""
    from dataclasses import replace

    from leakrt.engines.carry import Carried, add_engines

    (first, data), _ = portable
    newer = replace(first, key=replace(first.key, recipe=first.key.recipe + 1), leakrt="9.0")
    there = elsewhere(tmp_path)
    with pytest.raises(EngineError, match=r"it was built by LeakRT 9.0, which derives different graphs from a bundle"):
        add_engines([Carried(newer, data)], there, silent)
    assert there.engines() == []


def test_a_folder_that_lists_no_engine_is_refused(folder, signer):
    import json

    from leakrt.engines.carry import read_folder

    manifest = json.loads((folder / "engines.json").read_text())
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if name.endswith(".json")}
    (folder / "engines.json").write_text(json.dumps({**manifest, "signer": ""}))
    with pytest.raises(EngineError, match=r"engines.json lists no engines; copy the folder again"):
        read_folder(folder, NO_KEYS, True)


def test_a_folder_with_other_files_is_not_replaced(tmp_path, cache, portable, signer):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(StorageError, match="the folder contains other files"):
        write(tmp_path / "mine", cache, portable, signer)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_folder_of_engines_is_replaced(folder, cache, portable, signer):
    write(folder, cache, portable[:1], signer)
    assert not (folder / "leak_encoder.fp16.engine").exists()
