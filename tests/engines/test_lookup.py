"""Finding the engines of a variant, and the build command if they are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_records import GPU, KEY, record_of

from leakrt.core.errors import EngineError
from leakrt.engines.build.derive import RECIPE
from leakrt.engines.library.device import TargetDevice
from leakrt.engines.library.rtx import TensorRTRTX
from leakrt.engines.library.tensorrt10 import TensorRT10
from leakrt.engines.lookup import WantedEngines, build_command, find_engines

SOURCES = ("a" * 64, "c" * 64)
WANTED = WantedEngines(
    precision="fp16",
    sources=SOURCES,
    draws=2,
    flavour=TensorRT10(None, "10.3.0"),
    device=GPU,
    number=0,
    bundle="my bundle",
)


@pytest.fixture
def store(cache):
    """Store an engine of one graph in the cache."""

    def put(which: int, batches: tuple[int, ...], created: str = "2026-01-01", **changed) -> None:
        graph = ("vae_encoder", "leak_encoder")[which]
        key = replace(KEY, graph=graph, source=SOURCES[which], batches=batches, recipe=RECIPE, **changed)
        data = repr(key).encode()
        cache.store(record_of(data, key=key, created=created), data)

    return put


def test_the_newest_pair_is_found_with_its_common_batch_sizes(cache, store):
    store(0, (1,), "2026-01-01")
    store(0, (1, 4, 8), "2026-01-02")
    store(1, (2, 8, 32))
    found = find_engines(cache, WANTED)
    assert found.batches == (1, 4)
    assert found.vae.record.key.batches == (1, 4, 8)
    assert found.leak.data == cache.read(found.leak.record)


def test_without_a_common_batch_size_both_are_reported(cache, store):
    store(0, (1, 4))
    store(1, (6,))
    with pytest.raises(
        EngineError, match=r"vae_encoder was built for batch 1, 4, leak_encoder for 6 samples, 2 per image"
    ):
        find_engines(cache, WANTED)


def test_a_missing_engine_is_reported_per_graph(cache, store):
    store(0, (1,))
    with pytest.raises(EngineError, match=r"on NVIDIA A \(leak_encoder: not built yet\); build them with: leakrt"):
        find_engines(cache, WANTED)


@pytest.mark.parametrize(
    ("wanted", "command"),
    [
        (WANTED, "leakrt build 'my bundle' --precision fp16"),
        (replace(WANTED, number=1, bundle="b"), "leakrt build b --precision fp16 --device 1"),
        (
            replace(WANTED, bundle="b", flavour=TensorRTRTX(None, "1.7")),
            "leakrt build b --precision fp16 --flavour tensorrt-rtx --target 8.9",
        ),
        (
            replace(
                WANTED,
                bundle="b",
                flavour=TensorRTRTX(None, "1.7"),
                device=TargetDevice(name="H100", capability="9.0", multiprocessors=132, driver="1"),
            ),
            "leakrt build b --precision fp16 --flavour tensorrt-rtx --target current",
        ),
    ],
)
def test_the_command_builds_for_this_library_and_gpu(wanted, command):
    assert build_command(wanted) == command


def test_built_engines_are_found_for_every_gpu_they_target(cache, rtx, variants):
    from leakrt.core.bundle import Bundle, graph_name
    from leakrt.core.progress import silent
    from leakrt.engines.build.build import BuildRequest, build_bundle
    from leakrt.engines.build.builder import BuildOptions

    bundle = Bundle(variants)
    build_bundle(
        bundle,
        BuildRequest(precision="fp32", flavour=rtx, options=BuildOptions(batches=(1, 4), targets=("8.6",))),
        cache,
        progress=silent,
    )
    sources = tuple(bundle.hashes[graph_name(stem, "fp32")] for stem in ("vae_encoder", "leak_encoder"))
    gpu = TargetDevice(name="RTX", capability="8.6", multiprocessors=10, driver="1")
    wanted = WantedEngines(
        precision="fp32",
        sources=sources,
        draws=bundle.spec.draws,
        flavour=rtx,
        device=gpu,
        number=0,
        bundle=str(variants),
    )
    assert find_engines(cache, wanted).batches == (1, 4)
    with pytest.raises(EngineError, match=r"it is for compute capability 8.6, and other has 12.0"):
        find_engines(
            cache, replace(wanted, device=TargetDevice(name="other", capability="12.0", multiprocessors=10, driver="1"))
        )
