"""The Backend interface, tested on each backend that runs here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError, UsageError
from leakrt.runtime.backends import registry
from leakrt.runtime.backends.base import Availability, Backend, BackendKind, ChainBackend, Description, Variant
from leakrt.runtime.loaded import weights_of

IMAGES = np.random.default_rng(8).uniform(-1, 1, (3, 3, 40, 40)).astype(np.float32)
NOISED = np.random.default_rng(9).standard_normal((3, 3, 4, 5, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tiny, tmp_path_factory) -> Bundle:
    """The tiny bundle, with weights if onnx is installed, which writes them."""
    if importlib.util.find_spec("onnx") is None:
        return Bundle(tiny)
    from leakrt.core.bundle import write_bundle
    from leakrt.export.weights import weights_file

    opened = Bundle(tiny)
    files = {name: opened.read(name) for name in opened.hashes}
    path = tmp_path_factory.mktemp("base") / "bundle"
    write_bundle(path, opened.spec, files | weights_file(files), provenance={})
    return Bundle(path)


@pytest.fixture(scope="module")
def variant(bundle) -> Variant:
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    return Variant(bundle.spec, "fp32", *graphs, weights_of(bundle))


@pytest.fixture(scope="module", params=registry.AUTO_ORDER)
def backend(request, variant) -> Backend:
    """Each backend that can run the bundle on this machine, with one thread."""
    kind = registry.kind(request.param)
    if not kind.probe().runs:
        pytest.skip(f"{kind.name} can't run here: {kind.probe().reason}")
    try:
        return kind.load(variant, 1)
    except LeakRTError as error:
        pytest.skip(f"{kind.name} does not load this variant here: {error}")


@pytest.mark.parametrize("name", registry.AUTO_ORDER)
def test_a_probe_returns_whether_it_runs_or_how_to_install_it(name):
    kind = registry.kind(name)
    found = kind.probe()
    assert isinstance(kind, BackendKind)
    assert isinstance(found, Availability)
    assert kind.name == found.backend == name
    if found.runs:
        assert (found.version != "", found.reason) == (True, "")
    else:
        assert found.reason
        assert found.install


@pytest.mark.parametrize("name", registry.AUTO_ORDER)
def test_naming_a_kind_imports_no_library(name):
    code = (
        "import sys; from leakrt.runtime.backends import registry; registry.kind(sys.argv[1]); "
        "print([m for m in ('onnxruntime', 'openvino', 'torch', 'tensorrt', 'pycuda') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_loaded_backend_describes_itself(backend, variant):
    found = backend.describe()
    assert isinstance(found, Description)
    assert (found.backend, found.precision) == (backend.name, backend.precision) == (backend.name, variant.precision)
    assert found.version == registry.kind(backend.name).probe().version
    assert found.device
    assert found.threads >= 1
    assert found.device_bytes is None or found.device_bytes > 0
    assert backend.batch >= 1


def test_shapes_and_types_are_those_of_the_format_for_one_image_and_for_several(backend, bundle):
    spec = bundle.spec
    for count in (1, 3):
        latent = backend.vae_encoder(IMAGES[:count])
        outputs = backend.leak_encoder(NOISED[:count])
        assert (latent.shape, latent.dtype) == ((count, *spec.latent_shape), np.float32)
        widths = (len(spec.class_names), spec.embedding_dim, spec.embedding_dim, len(spec.timesteps))
        arrays = (outputs.scores, outputs.embedding, outputs.gates, outputs.step_weights)
        assert [(a.shape, a.dtype) for a in arrays] == [((count, width), np.float32) for width in widths]


def test_every_backend_matches_the_reference(backend, variant):
    reference = registry.kind(registry.REFERENCE).load(variant, 1)
    wanted, found = reference.vae_encoder(IMAGES), backend.vae_encoder(IMAGES)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    for name in ("scores", "embedding", "gates", "step_weights"):
        wanted, found = (getattr(b.leak_encoder(NOISED), name) for b in (reference, backend))
        assert np.abs(found - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


def test_a_result_is_the_callers_own(backend):
    first = backend.vae_encoder(IMAGES[:1])
    kept = first.copy()
    backend.vae_encoder(IMAGES[1:2])
    assert np.array_equal(first, kept)


def test_only_backends_that_keep_data_on_a_device_have_a_chain(backend):
    assert isinstance(backend, ChainBackend) == hasattr(backend, "chain")
    if backend.name in ("onnxruntime", "openvino"):
        assert not isinstance(backend, ChainBackend)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_cpu_backends_refuse_a_gpu_number(name, variant):
    kind = registry.kind(name)
    if not kind.probe().runs:
        pytest.skip(f"{name} can't run here: {kind.probe().reason}")
    with pytest.raises(UsageError, match=f"--device 1: {name} runs on the CPU; omit it"):
        kind.load(variant, 1, device=1)
