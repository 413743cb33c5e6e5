"""The bundle: the artifact that training exports and a deployment loads. Every file is verified; none is a pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import read_npz, write_npz
from .decision import Decision
from .errors import BundleError
from .files import sha256_bytes
from .spec import ModelSpec
from .storage import Storage, open_storage, write_files
from .support import Support
from .training_images import TrainingImages

FORMAT_VERSION = 1
PRECISIONS = ("fp32", "fp16", "int8")
_NAME = re.compile(
    r"(vae_encoder|leak_encoder)\.(fp32|fp16|int8)\.onnx|density\.(fp32|fp16|int8)\.safetensors"
    r"|decision\.json|golden\.npz|exemplars\.npz|training_images\.npz|weights\.safetensors"
)
TRAINING_NAME = "training_images.npz"
_MANIFEST_LIMIT = 4 << 20
_FILE_LIMIT = 4 << 30
_GOLDEN_LIMIT = 64 << 20


def graph_name(stem: str, precision: str) -> str:
    """Return the file name of a graph; `stem` is `vae_encoder` or `leak_encoder`."""
    return f"{stem}.{precision}.onnx"


def density_name(precision: str) -> str:
    """Return the file name of a precision's density support."""
    return f"density.{precision}.safetensors"


@dataclass(frozen=True)
class Golden:
    """An image and its outputs at the time the bundle was exported."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    scores: Mapping[str, npt.NDArray[np.float32]]  # precision to [K]
    embedding: Mapping[str, npt.NDArray[np.float32]]  # precision to [D]

    def to_bytes(self) -> bytes:
        """Return the bytes of `golden.npz`."""
        arrays: dict[str, npt.NDArray[Any]] = {"image": self.image}
        arrays |= {f"scores_{p}": v for p, v in self.scores.items()}
        arrays |= {f"embedding_{p}": v for p, v in self.embedding.items()}
        return write_npz(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """Read the bytes that `to_bytes` returned. Raises BundleError."""
        arrays = read_npz(data, "golden.npz")
        image = arrays.pop("image", np.empty(0))
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BundleError("golden.npz: the image is not uint8 [H, W, 3]; export the bundle again")
        split = {stem: _by_precision(arrays, stem) for stem in ("scores", "embedding")}
        return cls(image, split["scores"], split["embedding"])


def _by_precision(arrays: Mapping[str, npt.NDArray[Any]], stem: str) -> dict[str, npt.NDArray[np.float32]]:
    prefix = f"{stem}_"
    found = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    for precision, array in found.items():
        if precision not in PRECISIONS or array.dtype != np.float32 or array.ndim != 1:
            raise BundleError(f"golden.npz: {prefix}{precision} is not a float32 vector of a known precision")
    return found


class Bundle:
    """An opened bundle with verified hashes. Spec and decisions are read on opening, graphs on request.

    Attributes: `path`, `identity` (first 12 hex digits of the manifest's SHA-256), `spec`, `provenance` (JSON
    object), `decisions` (precision to Decision), `hashes` (file name to SHA-256 in hex), `file_sizes` (file name to
    bytes).
    """

    def __init__(self, path: str | Path) -> None:
        """Open and verify the bundle at `path`.

        Raises BundleError if a file is missing, changed or not part of the format, or if the format is too new. The
        message names the file.
        """
        self.path = Path(path)
        self._storage: Storage = open_storage(self.path)
        sizes = self._storage.sizes()
        raw = self._storage.read("manifest.json", _MANIFEST_LIMIT) if "manifest.json" in sizes else None
        if raw is None:
            raise BundleError(f"{self.path} is not a complete bundle: it has no manifest.json; copy it again")
        manifest = _parse(raw, f"{self.path}: manifest.json")
        self.identity = sha256_bytes(raw)[:12]
        self.hashes = _check_manifest(manifest, self.path)
        self.spec = ModelSpec.from_json(manifest["spec"])
        self.provenance: dict[str, Any] = manifest["provenance"]
        self._check_files(sizes)
        self.file_sizes = {name: sizes[name] for name in sorted(self.hashes)}
        self.decisions = self._read_decisions()

    def _check_files(self, sizes: Mapping[str, int]) -> None:
        for name in sizes.keys() - self.hashes.keys() - {"manifest.json"}:
            raise BundleError(f"{self.path}: {name} is not listed in the manifest; remove it")
        for name in sorted(self.hashes):
            if name not in sizes:
                raise BundleError(f"{self.path}: {name} is missing; copy the bundle again")
            self.read(name)

    def _read_decisions(self) -> dict[str, Decision]:
        if "decision.json" not in self.hashes:
            raise BundleError(f"{self.path}: decision.json is missing; export the bundle again")
        blocks = _parse(self.read("decision.json"), f"{self.path}: decision.json")
        if not blocks or blocks.keys() - set(PRECISIONS):
            raise BundleError(f"{self.path}: decision.json must hold blocks named {', '.join(PRECISIONS)}")
        for precision in blocks:
            needed = [graph_name("vae_encoder", precision), graph_name("leak_encoder", precision)]
            for name in [*needed, density_name(precision), "golden.npz"]:
                if name not in self.hashes:
                    raise BundleError(f"{self.path}: {precision} lacks {name}; export the bundle again")
        return {precision: Decision.from_json(block) for precision, block in blocks.items()}

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that have a complete variant and a decision, in the order fp32, fp16, int8."""
        return tuple(p for p in PRECISIONS if p in self.decisions)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file. Raises BundleError if their SHA-256 differs from the manifest's."""
        if name not in self.hashes:
            raise BundleError(f"{self.path} has no {name}; export the bundle again")
        data = self._storage.read(name, _FILE_LIMIT)
        if sha256_bytes(data) != self.hashes[name]:
            raise BundleError(f"{self.path}: {name} was changed or damaged (SHA-256 differs); copy the bundle again")
        return data

    def has(self, name: str) -> bool:
        """Return whether the manifest lists `name`."""
        return name in self.hashes

    def graph(self, stem: str, precision: str) -> bytes:
        """Return the ONNX bytes of `vae_encoder` or `leak_encoder`. Raises BundleError if there is no such variant."""
        self.require_precision(precision)
        return self.read(graph_name(stem, precision))

    def support(self, precision: str) -> Support:
        """Return the density support and prototypes of one precision. Raises BundleError."""
        self.require_precision(precision)
        return Support.from_bytes(self.read(density_name(precision)))

    def variant_size(self, precision: str) -> int:
        """Return the size of one precision's graphs and density in bytes. Raises BundleError if there is none."""
        self.require_precision(precision)
        graphs = [graph_name(stem, precision) for stem in ("vae_encoder", "leak_encoder")]
        return sum(self.file_sizes[name] for name in (*graphs, density_name(precision)))

    def golden(self) -> Golden:
        """Return the golden image with its expected outputs. Raises BundleError."""
        data = self.read("golden.npz")
        if len(data) > _GOLDEN_LIMIT:
            raise BundleError(f"{self.path}: golden.npz is too large; export the bundle again")
        return Golden.from_bytes(data)

    def training_images(self) -> TrainingImages | None:
        """Return the record of the training images; None if the bundle has none."""
        return TrainingImages.from_bytes(self.read(TRAINING_NAME)) if self.has(TRAINING_NAME) else None

    def require_precision(self, precision: str) -> None:
        """Raise BundleError, listing the available precisions, if there is no variant of this one."""
        if precision not in self.decisions:
            raise BundleError(f"{self.path} has no {precision} variant; it has: {', '.join(self.precisions)}")


def write_bundle(path: Path, spec: ModelSpec, files: Mapping[str, bytes], *, provenance: Mapping[str, Any]) -> None:
    """Write a bundle atomically: a zip if `path` ends in .zip, else a folder. An old bundle is replaced at the end.

    `files` maps file names of the format to bytes. Raises BundleError for any other name, and StorageError.
    """
    for name in files:
        if not _NAME.fullmatch(name):
            raise BundleError(f"{name} is not a file of the bundle format")
    manifest = {
        "format_version": FORMAT_VERSION,
        "spec": spec.to_json(),
        "files": {name: sha256_bytes(data) for name, data in sorted(files.items())},
        "provenance": dict(provenance),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False)
    write_files(path, {**files, "manifest.json": text.encode()})


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not JSON ({error}); copy the bundle again") from error
    if not isinstance(data, dict):
        raise BundleError(f"{name} is not a JSON object; copy the bundle again")
    return data


def _check_manifest(manifest: Mapping[str, Any], path: Path) -> dict[str, str]:
    version = manifest.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{path} is not a bundle: manifest.json has no format version")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format {version}, this LeakRT reads up to {FORMAT_VERSION}; upgrade it: pip install -U leakrt"
        )
    files, provenance = manifest.get("files"), manifest.get("provenance")
    if not isinstance(files, dict) or not isinstance(provenance, dict) or "spec" not in manifest:
        raise BundleError(f"{path}: manifest.json lacks its spec, files or provenance; copy the bundle again")
    for name, digest in files.items():
        if not _NAME.fullmatch(name) or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise BundleError(f"{path}: the manifest lists {name!r}, which is not a file of the bundle format")
    return files
