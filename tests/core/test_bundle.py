"""A bundle opens only if it is complete and unchanged."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from leakrt.core.bundle import Bundle, Golden, density_name, graph_name, write_bundle
from leakrt.core.errors import BundleError
from leakrt.core.files import sha256_bytes
from leakrt.core.spec import ModelSpec

SPEC = ModelSpec(class_names=("real", "gan"), real_class="real")


def rewrite_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and its hash, as in a forged bundle."""
    (folder / name).write_bytes(data)
    hashes = json.loads((folder / "manifest.json").read_text())["files"]
    rewrite_manifest(folder, files=hashes | {name: sha256_bytes(data)})


def zipped(folder: Path, extra: dict[str, bytes]) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
        for name, data in extra.items():
            archive.writestr(name, data)
    return target


def test_a_complete_bundle_opens(tiny):
    bundle = Bundle(tiny)
    assert bundle.precisions == ("fp32",)
    assert bundle.spec.class_names == ("real", "blocky", "smooth")
    assert bundle.identity == sha256_bytes((tiny / "manifest.json").read_bytes())[:12]
    assert set(bundle.file_sizes) == {file.name for file in tiny.iterdir()} - {"manifest.json"}
    assert bundle.graph("vae_encoder", "fp32") == (tiny / "vae_encoder.fp32.onnx").read_bytes()
    assert bundle.support("fp32").prototypes.shape == (3, 2, 12)
    assert bundle.golden().scores["fp32"].shape == (3,)
    assert bundle.has("exemplars.npz")
    assert not bundle.has("weights.safetensors")


def test_the_same_bundle_opens_as_a_zip(tiny_copy):
    assert Bundle(zipped(tiny_copy, {})).identity == Bundle(tiny_copy).identity


def test_a_flipped_byte_in_any_file_is_detected_and_the_file_named(tiny, tmp_path):
    for file in sorted(tiny.iterdir()):
        folder = tmp_path / file.name
        shutil.copytree(tiny, folder)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        (folder / file.name).write_bytes(data)
        if file.name == "manifest.json":
            # It holds the hashes and has none of its own but its identity: either it no longer fits, or that changed.
            try:
                assert Bundle(folder).identity != Bundle(tiny).identity
            except BundleError:
                continue
        else:
            with pytest.raises(BundleError, match=rf"{file.name} was changed or damaged \(SHA-256 differs\)"):
                Bundle(folder)


def test_a_missing_file_is_named(tiny, tmp_path):
    for file in sorted(tiny.iterdir()):
        folder = tmp_path / file.name
        shutil.copytree(tiny, folder)
        (folder / file.name).unlink()
        missing = "has no manifest.json" if file.name == "manifest.json" else f"{file.name} is missing"
        with pytest.raises(BundleError, match=missing):
            Bundle(folder)


def test_an_extra_file_is_named(tiny_copy):
    (tiny_copy / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt is not listed in the manifest; remove it"):
        Bundle(tiny_copy)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "sub/vae_encoder.fp32.onnx", "..\\evil"])
def test_a_zip_entry_with_a_path_is_rejected_and_nothing_is_written(tiny_copy, name):
    before = sorted(tiny_copy.parent.iterdir())
    target = zipped(tiny_copy, {name: b"x"})
    with pytest.raises(BundleError, match="is not listed in the manifest"):
        Bundle(target)
    assert sorted(tiny_copy.parent.iterdir()) == sorted([*before, target])


def test_a_newer_format_says_to_upgrade(tiny_copy):
    rewrite_manifest(tiny_copy, format_version=2)
    with pytest.raises(BundleError, match="has format 2, this LeakRT reads up to 1; upgrade it: pip install -U leakrt"):
        Bundle(tiny_copy)


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.5, True])
def test_a_manifest_without_a_format_version_is_rejected(tiny_copy, version):
    rewrite_manifest(tiny_copy, format_version=version)
    with pytest.raises(BundleError, match="has no format version"):
        Bundle(tiny_copy)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"files": None}, "lacks its spec, files or provenance"),
        ({"provenance": []}, "lacks its spec, files or provenance"),
        ({"files": {"../x": "0" * 64}}, r"'\.\./x', which is not a file of the bundle format"),
        ({"files": {"golden.npz": "abc"}}, "which is not a file of the bundle format"),
        ({"files": {"golden.npz": 3}}, "which is not a file of the bundle format"),
        ({"spec": {}}, "model spec: "),
        ({"spec": None}, "not a JSON object"),
    ],
)
def test_an_invalid_manifest_is_rejected(tiny_copy, changes, why):
    rewrite_manifest(tiny_copy, **changes)
    with pytest.raises(BundleError, match=why):
        Bundle(tiny_copy)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff", "null", '{"format_version": 1}'])
def test_a_manifest_that_is_not_a_json_object_is_rejected(tiny_copy, text):
    (tiny_copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"manifest\.json") as error:
        Bundle(tiny_copy)
    assert str(error.value).startswith(str(tiny_copy))


@pytest.mark.parametrize("data", [b"{}", b'{"fp8": {}}', b"[]", b'{"fp32": 1}', b'{"fp32": {}}', b'{"int8": {}}'])
def test_invalid_decisions_are_rejected(tiny_copy, data):
    replace_file(tiny_copy, "decision.json", data)
    with pytest.raises(BundleError, match=r"decision|int8 lacks vae_encoder\.int8\.onnx"):
        Bundle(tiny_copy)


def test_a_decision_without_its_variant_is_rejected(tiny_copy):
    block = json.loads((tiny_copy / "decision.json").read_text())["fp32"]
    replace_file(tiny_copy, "decision.json", json.dumps({"fp32": block, "int8": block}).encode())
    with pytest.raises(BundleError, match=r"int8 lacks vae_encoder\.int8\.onnx; export the bundle again"):
        Bundle(tiny_copy)


def test_an_error_about_a_missing_precision_lists_the_available_ones(tiny):
    bundle = Bundle(tiny)
    for ask in (lambda: bundle.graph("vae_encoder", "int8"), lambda: bundle.support("int8")):
        with pytest.raises(BundleError, match="has no int8 variant; it has: fp32"):
            ask()


def test_a_file_that_changes_after_opening_is_rejected(tiny_copy):
    bundle = Bundle(tiny_copy)
    (tiny_copy / "golden.npz").write_bytes(b"changed")
    with pytest.raises(BundleError, match="was changed or damaged"):
        bundle.golden()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"image": np.zeros((40, 40, 4), np.uint8)},
        {"image": np.zeros((40, 40, 3), np.float32)},
        {"image": np.zeros((40, 40, 3), np.uint8), "scores_fp32": np.zeros(3)},
        {"image": np.zeros((40, 40, 3), np.uint8), "scores_fp8": np.zeros(3, np.float32)},
        {"image": np.zeros((40, 40, 3), np.uint8), "embedding_fp32": np.zeros((3, 1), np.float32)},
    ],
)
def test_a_golden_file_with_other_arrays_is_rejected(arrays):
    from leakrt.core.arrays import write_npz

    with pytest.raises(BundleError, match=r"golden\.npz"):
        Golden.from_bytes(write_npz(arrays))


def test_a_file_outside_the_format_is_not_written(tmp_path):
    with pytest.raises(BundleError, match=r"model\.pkl is not a file of the bundle format"):
        write_bundle(tmp_path / "b", SPEC, {"model.pkl": b""}, provenance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_written_bundle_opens(tiny, tmp_path, name):
    source = Bundle(tiny)
    files = {name: source.read(name) for name in source.file_sizes}
    write_bundle(tmp_path / name, source.spec, files, provenance={"metrics": {"auc": 0.5}})
    again = Bundle(tmp_path / name)
    assert again.provenance == {"metrics": {"auc": 0.5}}
    assert again.spec == source.spec
    assert again.hashes == source.hashes


def test_file_names_are_those_of_the_format():
    assert graph_name("vae_encoder", "int8") == "vae_encoder.int8.onnx"
    assert density_name("fp16") == "density.fp16.safetensors"


def test_the_size_of_a_variant_is_that_of_its_graphs_and_density(tiny):
    bundle = Bundle(tiny)
    files = ("vae_encoder.fp32.onnx", "leak_encoder.fp32.onnx", "density.fp32.safetensors")
    assert bundle.variant_size("fp32") == sum((tiny / name).stat().st_size for name in files)
    with pytest.raises(BundleError, match="has no int8 variant"):
        bundle.variant_size("int8")
