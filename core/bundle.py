"""The bundle: what training hands to deployment. Every byte is hashed before it is used; nothing is a pickle."""

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
    """File name of a graph: stem is `vae_encoder` or `leak_encoder`."""
    return f"{stem}.{precision}.onnx"


def density_name(precision: str) -> str:
    """File name of a precision's density support."""
    return f"density.{precision}.safetensors"


@dataclass(frozen=True)
class Golden:
    """An image and what it gave when the bundle was made."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    scores: Mapping[str, npt.NDArray[np.float32]]  # precision to [K]
    embedding: Mapping[str, npt.NDArray[np.float32]]  # precision to [D]

    def to_bytes(self) -> bytes:
        """The npz file."""
        arrays: dict[str, npt.NDArray[Any]] = {"image": self.image}
        arrays |= {f"scores_{p}": v for p, v in self.scores.items()}
        arrays |= {f"embedding_{p}": v for p, v in self.embedding.items()}
        return write_npz(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """Read what `to_bytes` wrote. Raises BundleError."""
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
    """An opened bundle: hashes verified, spec and decisions read. Graphs are read when asked for.

    Attributes: `path`, `identity` (first 12 hex digits of the manifest's SHA-256), `spec`, `provenance` (JSON
    object), `decisions` (precision to Decision), `hashes` (file name to SHA-256 in hex), `file_sizes` (file name to
    bytes).
    """

    def __init__(self, path: str | Path) -> None:
        """Open and verify. Raises BundleError naming the file that is missing, changed, foreign or too new."""
        self.path = Path(path)
        self._storage: Storage = open_storage(self.path)
        sizes = self._storage.sizes()
        raw = self._storage.read("manifest.json", _MANIFEST_LIMIT) if "manifest.json" in sizes else None
        if raw is None:
            raise BundleError(f"{self.path} has no manifest.json: it is not a bundle, or was copied in part")
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
        """The precisions with a whole variant and a decision, in the order fp32, fp16, int8."""
        return tuple(p for p in PRECISIONS if p in self.decisions)

    def read(self, name: str) -> bytes:
        """The verified bytes of one file. Raises BundleError when they are not those the manifest names."""
        if name not in self.hashes:
            raise BundleError(f"{self.path} holds no {name}")
        data = self._storage.read(name, _FILE_LIMIT)
        if sha256_bytes(data) != self.hashes[name]:
            raise BundleError(f"{self.path}: {name} was changed or damaged (SHA-256 differs); copy the bundle again")
        return data

    def has(self, name: str) -> bool:
        """Whether the manifest lists `name`."""
        return name in self.hashes

    def graph(self, stem: str, precision: str) -> bytes:
        """The ONNX bytes of `vae_encoder` or `leak_encoder`. Raises BundleError when there is no such variant."""
        self.require_precision(precision)
        return self.read(graph_name(stem, precision))

    def support(self, precision: str) -> Support:
        """The density support and prototypes of one precision."""
        self.require_precision(precision)
        return Support.from_bytes(self.read(density_name(precision)))

    def variant_size(self, precision: str) -> int:
        """Bytes of one precision's graphs and density. Raises BundleError when there is no such variant."""
        self.require_precision(precision)
        graphs = [graph_name(stem, precision) for stem in ("vae_encoder", "leak_encoder")]
        return sum(self.file_sizes[name] for name in (*graphs, density_name(precision)))

    def golden(self) -> Golden:
        """The golden image with its expected outputs."""
        data = self.read("golden.npz")
        if len(data) > _GOLDEN_LIMIT:
            raise BundleError(f"{self.path}: golden.npz is too large; export the bundle again")
        return Golden.from_bytes(data)

    def training_images(self) -> TrainingImages | None:
        """Which images were trained on; None where the bundle does not record it."""
        return TrainingImages.from_bytes(self.read(TRAINING_NAME)) if self.has(TRAINING_NAME) else None

    def require_precision(self, precision: str) -> None:
        """Raises BundleError that names the precisions there are."""
        if precision not in self.decisions:
            raise BundleError(f"{self.path} has no {precision} variant; it has: {', '.join(self.precisions)}")


def write_bundle(path: Path, spec: ModelSpec, files: Mapping[str, bytes], *, provenance: Mapping[str, Any]) -> None:
    """Write a bundle in one step (a zip when `path` ends in .zip), replacing what stood there only when whole.

    `files` maps names of the format to bytes. Raises BundleError for a foreign name, StorageError.
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
        raise BundleError(f"{path}: manifest.json states no format version; it is not a bundle")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format {version}, this LeakRT reads up to {FORMAT_VERSION}; upgrade it: pip install -U leakrt"
        )
    files, provenance = manifest.get("files"), manifest.get("provenance")
    if not isinstance(files, dict) or not isinstance(provenance, dict) or "spec" not in manifest:
        raise BundleError(f"{path}: manifest.json lacks its spec, files or provenance; copy the bundle again")
    for name, digest in files.items():
        if not _NAME.fullmatch(name) or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise BundleError(f"{path}: the manifest lists {name!r}, which is no file of the bundle format")
    return files
