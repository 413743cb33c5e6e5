"""The torch backend matches ONNX Runtime and reports what is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt import Detector
from leakrt.core.bundle import Bundle, write_bundle
from leakrt.core.errors import BackendError, BundleError, MissingExtraError, ModelError, UsageError
from leakrt.core.images import find_images
from leakrt.core.weights import WEIGHTS_NAME, from_bytes, to_bytes
from leakrt.export.weights import weights_file
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.torch import kind as backend


@pytest.fixture(scope="module")
def files(tiny):
    bundle = Bundle(tiny)
    found = {name: bundle.read(name) for name in bundle.hashes}
    return found | weights_file(found)


@pytest.fixture(scope="module")
def bundle(tiny, files, tmp_path_factory):
    """The tiny bundle with its weights."""
    path = tmp_path_factory.mktemp("torch") / "bundle"
    write_bundle(path, Bundle(tiny).spec, files, provenance={})
    return path


@pytest.fixture(scope="module")
def variant(bundle, files):
    graphs = (files["vae_encoder.fp32.onnx"], files["leak_encoder.fp32.onnx"])
    return Variant(Bundle(bundle).spec, "fp32", *graphs, lambda: files[WEIGHTS_NAME])


def with_weights(variant, **networks):
    """Return the variant with other networks as its weights."""
    data = to_bytes({**from_bytes(variant.weights()), **networks})
    return replace(variant, weights=lambda: data)


def test_it_gives_the_same_verdicts_as_onnx_runtime(bundle, image_folder):
    paths = find_images(image_folder(9))
    wanted, found = (
        Detector.load(bundle, backend=name, threads=1).check_batch(paths) for name in ("onnxruntime", "torch")
    )
    assert [(v.verdict, v.label, v.prototype) for v in found] == [(v.verdict, v.label, v.prototype) for v in wanted]
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(list(b.scores.values()), list(a.scores.values()), atol=1e-5)
        assert b.log_density == pytest.approx(a.log_density, abs=1e-3)
        assert b.backend == "torch"


def test_a_score_does_not_depend_on_its_batch_or_its_thread_count(bundle, image_folder):
    paths = find_images(image_folder(5))
    one_by_one = Detector.load(bundle, backend="torch", threads=1)
    alone = [one_by_one.check(path).scores for path in paths]
    assert [v.scores for v in one_by_one.check_batch(paths)] == alone
    for a, b in zip(Detector.load(bundle, backend="torch", threads=2).check_batch(paths), alone, strict=True):
        np.testing.assert_allclose(list(a.scores.values()), list(b.values()), atol=1e-6)


def test_it_describes_itself(variant):
    described = backend.load(variant, 1).describe()
    assert (described.backend, described.precision, described.threads) == ("torch", "fp32", 1)
    assert described.version == torch.__version__
    assert described.device_bytes is None


@pytest.mark.parametrize(
    ("seen", "said"), [(0, "no GPU here"), (1, "one GPU, number 0, here"), (3, "3 GPUs, 0 to 2, here")]
)
def test_an_unknown_gpu_is_refused_with_the_visible_ones(variant, monkeypatch, seen, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    with pytest.raises(UsageError, match=f"--device 3: torch sees {said}"):
        backend.load(variant, 1, device=3)


def test_outputs_are_in_the_order_of_the_format(variant):
    leak = from_bytes(variant.weights())["leak_encoder"]
    turned = with_weights(variant, leak_encoder=replace(leak, outputs=tuple(reversed(leak.outputs))))
    noised = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 5), dtype=np.float32)
    a, b = (backend.load(v, 1).leak_encoder(noised) for v in (variant, turned))
    for name in ("scores", "embedding", "gates", "step_weights"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_bundle_without_weights_is_refused(tiny):
    with pytest.raises(BackendError, match=r"holds no weights\.safetensors, which torch needs; export it again"):
        Detector.load(tiny, backend="torch")


def test_int8_is_refused(variant):
    with pytest.raises(BackendError, match="torch runs fp32 and fp16, not int8; name another backend"):
        backend.load(replace(variant, precision="int8"), 1)


def test_without_torch_the_error_names_the_install_command(variant, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'leakrt\[train\]'"):
        backend.load(variant, 1)


def test_probing_finds_torch_without_importing_it():
    code = (
        "import sys\nfrom leakrt.runtime.backends.torch import kind as backend\n"
        "found = backend.probe()\nprint(found.runs, found.version, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", torch.__version__, "False"]


def test_the_probe_reports_a_missing_torch(monkeypatch):
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    found = backend.probe()
    assert (found.runs, found.reason, found.install) == (False, "torch is not installed", "pip install 'leakrt[train]'")


def test_weights_of_another_shape_are_refused_at_load(variant, bundle, files, tmp_path):
    """The golden image runs at load."""
    vae = from_bytes(variant.weights())["vae_encoder"]
    smaller = {n: (t[:3] if t.ndim == 4 and t.shape[0] == 4 else t) for n, t in vae.tensors.items()}
    with pytest.raises(
        ModelError, match=r"^vae_encoder: latent has shape \[1, 3, 5, 5\], expected latent \[B, 4, 5, 5\]"
    ):
        backend.load(with_weights(variant, vae_encoder=replace(vae, tensors=smaller)), 1).vae_encoder(
            np.zeros((1, 3, 40, 40), np.float32)
        )


def test_swapped_networks_are_refused_at_load(variant):
    networks = from_bytes(variant.weights())
    with pytest.raises(ModelError, match=r"^vae_encoder: the inputs are \['noised'\], expected image"):
        backend.load(with_weights(variant, vae_encoder=networks["leak_encoder"]), 1)


def test_weights_that_differ_from_the_graphs_are_refused_by_the_golden_image(tiny, files, variant, tmp_path):
    leak = from_bytes(variant.weights())["leak_encoder"]
    moved = {n: (t * np.float32(1.01) if t.ndim == 4 else t) for n, t in leak.tensors.items()}
    changed = with_weights(variant, leak_encoder=replace(leak, tensors=moved)).weights()
    write_bundle(tmp_path / "b", Bundle(tiny).spec, files | {WEIGHTS_NAME: changed}, provenance={})
    from leakrt.core.errors import ParityError

    with pytest.raises(ParityError, match="fp32 on torch changes the golden image's scores"):
        Detector.load(tmp_path / "b", backend="torch")


def test_broken_weights_raise_a_one_line_error(variant):
    with pytest.raises(BundleError, match=r"^weights\.safetensors can't be used"):
        backend.load(replace(variant, weights=partial(bytes, 5)), 1)


def test_check_and_profile_run_on_it_from_the_command_line(bundle, leakrt, image_folder):
    import json

    done = leakrt("check", bundle, image_folder(1), "--backend", "torch", "--json")
    assert (done.code, json.loads(done.out)["backend"]) == (0, "torch")
    done = leakrt("profile", bundle, "--backend", "torch", "--seconds", "0.05", "--batch", "1,2", "--threads", "1",
                  "--cold-starts", "1", "--json")  # fmt: skip
    data = json.loads(done.out)
    assert (done.code, data["backend"], [b["batch"] for b in data["batches"]]) == (0, "torch", [1, 2])
    assert data["cold_start"]["load_ms"] > 0
