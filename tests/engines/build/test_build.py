"""Building bundles into the cache with the real TensorRT-RTX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, BundleError, EngineError, UsageError
from leakrt.core.progress import silent


@pytest.fixture
def request_of(rtx):
    """Make a BuildRequest for TensorRT-RTX."""
    from leakrt.engines.build.build import BuildRequest
    from leakrt.engines.build.builder import BuildOptions

    def make(precision="fp32", **options):
        return BuildRequest(precision=precision, flavour=rtx, options=BuildOptions(**{"targets": ("8.6",), **options}))

    return make


@pytest.fixture
def build(variants, cache, request_of):
    """Build the engines of a bundle."""
    from leakrt.engines.build.build import build_bundle

    def call(*args, progress=silent, **options):
        return build_bundle(Bundle(variants), request_of(*args, **options), cache, progress=progress)

    return call


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_variant_builds_for_every_common_capability(build, cache, precision):
    for outcome in build(precision, targets=("8.9", "8.0", "12.0", "8.6")):
        assert outcome.built
        assert outcome.record.key.targets == ("8.0", "8.6", "8.9", "12.0")
        assert cache.read(outcome.record) == outcome.path.read_bytes()


def test_the_second_build_comes_from_the_cache(build):
    first, second = build(), build()
    assert [o.built for o in first] == [True, True]
    assert [o.built for o in second] == [False, False]
    assert [o.record for o in first] == [o.record for o in second]


@pytest.mark.parametrize(
    "options",
    [{"batches": (1, 3)}, {"targets": ("8.9",)}, {"workspace": 64}, {"targets": ()}],
    ids=["batch", "target", "workspace", "no target"],
)
def test_each_option_changes_the_engine(build, options):
    assert {o.record.key.digest for o in build()}.isdisjoint(o.record.key.digest for o in build(**options))


def test_the_leak_encoder_has_a_profile_for_every_draw(build, variants):
    vae, leak = build(batches=(1, 3))
    assert vae.record.key.batches == (1, 3)
    assert leak.record.key.batches == tuple(b * Bundle(variants).spec.draws for b in (1, 3))


def test_fp16_and_int8_are_float16_between_kernels_with_float32_results(build):
    for precision in ("fp16", "int8"):
        vae, leak = build(precision)
        assert [t.split()[:2] for t in vae.record.key.tensors] == [["float16", "image"], ["float16", "latent"]]
        assert leak.record.key.tensors[0].startswith("float16 noised")
        assert all(t.startswith("float32") for t in leak.record.key.tensors[1:])
        assert all(p.error <= p.limit for p in (*vae.record.parity, *leak.record.parity))


def test_an_int8_engine_is_parsed_with_int8_and_float16(build):
    vae, _ = build("int8")
    kinds, types = ({getattr(layer, f) for layer in vae.record.layers} for f in ("kind", "dtype"))
    assert {"QUANTIZE", "DEQUANTIZE", "CONVOLUTION"} <= kinds
    assert {"INT8", "HALF"} <= types


def test_a_damaged_engine_is_rebuilt_with_a_note(build, cache):
    vae, _ = build()
    whole = vae.path.read_bytes()
    vae.path.write_bytes(whole[: len(whole) // 2])
    again, _ = build()
    assert again.built
    assert "rebuilding it" in again.notes[0]
    assert again.path.read_bytes() == whole


def test_a_changed_byte_is_detected_despite_the_right_size(build):
    vae, _ = build()
    data = bytearray(vae.path.read_bytes())
    data[100] ^= 1
    vae.path.write_bytes(data)
    assert "SHA-256 differs" in build()[0].notes[0]


def test_progress_reaches_100_and_never_decreases(build):
    seen = []
    build(progress=lambda task, done, total: seen.append((task, done, total)))
    for stem in ("vae_encoder", "leak_encoder"):
        steps = [done for task, done, _ in seen if task == f"build {stem}"]
        assert steps == sorted(steps)
        assert steps[-1] == 100


def test_impossible_builds_are_refused_by_name(build, tiny, cache, request_of):
    from leakrt.engines.build.build import build_bundle

    with pytest.raises(BundleError, match="has no int8 variant; it has: fp32"):
        build_bundle(Bundle(tiny), request_of("int8"), cache, progress=silent)
    for target, words in (("8.7", "Orin"), ("9.0", "H100"), ("7", "can't build for compute capability 7")):
        with pytest.raises(UsageError, match=words):
            build(targets=(target,))
    with pytest.raises(UsageError, match=r"build it separately: --target 7.5"):
        build(targets=("7.5", "8.6"))
    with pytest.raises(UsageError, match=r"--opt-level: TensorRT-RTX .* ignores the optimisation level"):
        build(level=5)
    with pytest.raises(UsageError, match="does not run on a DLA"):
        build("fp16", dla_core=0)


def test_turing_supports_only_fp16(build):
    assert [o.record.key.targets for o in build("fp16", targets=("7.5",))] == [("7.5",)] * 2
    with pytest.raises(EngineError, match=r"can.t multiply float32 .* 7\.5; build it with --precision fp16"):
        build("fp32", targets=("7.5",))


def test_without_a_gpu_the_current_target_is_refused(build, no_gpu):
    with pytest.raises(BackendError, match="no NVIDIA driver here"):
        build(targets=("current",))


_BUILD = """
import sys
from pathlib import Path
from leakrt.core.bundle import Bundle
from leakrt.engines.build.build import BuildRequest, build_bundle
from leakrt.engines.build.builder import BuildOptions
from leakrt.engines.cache.cache import default_cache
from leakrt.engines.library.installed import load_flavour
def progress(task, done, total):
    if task == "build leak_encoder":
        print("building", flush=True)
request = BuildRequest(precision="fp32", flavour=load_flavour("tensorrt-rtx"), options=BuildOptions(targets=("8.6",)))
for o in build_bundle(Bundle(sys.argv[1]), request, default_cache(), progress=progress):
    print("built" if o.built else "found", flush=True)
"""


def _start(variants):
    return subprocess.Popen([sys.executable, "-c", _BUILD, str(variants)], stdout=subprocess.PIPE, text=True)


def test_a_build_resumes_cleanly_after_a_kill(build, cache, variants):
    process = _start(variants)
    assert process.stdout.readline() == "building\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    vae, leak = build()
    assert (vae.built, leak.built) == (False, True)
    assert not [engine for engine in cache.verify() if engine.problem]
    assert cache.prune(cache.limit).leftovers == 0


def test_two_processes_build_each_engine_once(variants, rtx, own_folders):
    processes = [_start(variants), _start(variants)]
    lines = [line for p in processes for line in p.communicate()[0].splitlines() if line != "building"]
    assert sorted(lines) == ["built", "built", "found", "found"]
    assert all(p.returncode == 0 for p in processes)


def test_a_full_prune_during_a_build_removes_none_of_its_engines(build, cache):
    pruned = []

    def progress(task, done, total):
        if task == "check leak_encoder" and not done:
            pruned.append(cache.prune(0))

    outcomes = build(progress=progress)
    assert [(p.engines, p.leftovers, p.busy) for p in pruned] == [(0, 0, 1)]
    assert all(cache.read(outcome.record) for outcome in outcomes)


def test_a_build_reports_that_it_waits_for_the_lock(build, cache):
    import threading

    from leakrt.engines.cache.index import engine_lock

    vae, _ = build()
    cache.discard(vae.record.key.digest)
    captions, held = [], threading.Event()

    def hold():
        with engine_lock(cache.root, vae.record.key.digest, silent, waiting=""):
            held.set()
            while not captions:
                time.sleep(0.05)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    build(progress=lambda task, done, total: captions.append(task) if "wait for another" in task else None)
    holder.join()
    assert captions[0] == "wait for another process that builds vae_encoder"
