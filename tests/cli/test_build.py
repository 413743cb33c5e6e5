"""`leakrt build`: engines really built with TensorRT-RTX; without a GPU, ONNX Runtime runs them instead."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from stand_in_driver import leakrt_with_driver
from variants import build_rtx, require_rtx, shared_variants

RTX = ("--flavour", "tensorrt-rtx", "--target", "8.6")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test touches the user's cache or keys."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def no_gpu():
    from leakrt.engines.library.device import list_devices

    if list_devices():
        pytest.skip("this machine has a GPU")


def test_json_has_a_line_for_each_engine_with_its_full_key(leakrt, tmp_path, monkeypatch):
    vae, leak = build_rtx(leakrt, tmp_path, monkeypatch, "fp16", "--batch", "1,4")
    assert (vae["graph"], leak["graph"]) == ("vae_encoder", "leak_encoder")
    assert vae["key"]["targets"] == ["8.6", "12.0"]
    assert vae["key"]["batches"] == [1, 4]
    for engine in (vae, leak):
        path = Path(engine["path"])
        assert path.stat().st_size == engine["bytes"]
        assert path.is_relative_to(tmp_path / "cache" / "leakrt" / "engines")
        assert engine["built"]
    assert set(vae["parity"]) == {"latent"}
    assert vae["verify"] is None


def test_the_output_lists_what_was_built_and_what_was_cached(leakrt):
    require_rtx()
    first = leakrt("build", shared_variants(), "--precision", "fp32", *RTX)
    second = leakrt("build", shared_variants(), "--precision", "fp32", *RTX)
    assert (first.code, second.code) == (0, 0)
    assert [line.split()[0] for line in first.lines] == ["vae_encoder", "leak_encoder"]
    assert all("built in" in line for line in first.lines)
    assert all("from the cache" in line for line in second.lines)


def test_an_engine_cut_off_in_the_middle_is_built_again_and_that_is_said(leakrt, tmp_path, monkeypatch):
    vae, _ = build_rtx(leakrt, tmp_path, monkeypatch, "fp32")
    path = Path(vae["path"])
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole // 2])
    again = leakrt("build", shared_variants(), "--precision", "fp32", *RTX[:-1], "8.6,12.0")
    assert again.code == 0
    assert "it is truncated or changed (its size differs); rebuilding it" in again.err
    assert path.stat().st_size > whole // 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--flavour", "openvino"), 2, "unknown flavour 'openvino'; choose one of: tensorrt, tensorrt-rtx"),
        ((*RTX, "--batch", "1,two"), 2, "--batch 1,two: not a list of integers; separate integers with commas"),
        ((*RTX, "--batch", "1,1"), 2, "--batch: invalid size; give distinct sizes between 1 and 4096"),
        ((*RTX, "--opt-level", "5"), 2, "ignores the optimisation level; omit the option"),
        ((*RTX, "--opt-level", "6"), 2, "--opt-level 6: out of range; give 0 to 5"),
        ((*RTX, "--dla", "0"), 2, "does not run on a DLA"),
        ((*RTX, "--workspace", "-1"), 2, "--workspace -1: out of range; give 1 to 1048576 MiB"),
        ((*RTX, "--workspace", "99999999999999999999999"), 2, "99: out of range; give 1 to 1048576 MiB"),
        ((*RTX, "--workspace", "1"), 1, "no implementation of a layer fits in --workspace; increase it, or omit it"),
        (("--flavour", "tensorrt-rtx", "--target", "8.7"), 2, "for 8.7 (Orin) build on that machine with --flavour"),
        (("--flavour", "tensorrt-rtx", "--target", "9.0"), 2, "for 9.0 (H100 and H200) build on that machine"),
        (("--flavour", "tensorrt-rtx", "--target", "7.5"), 1, "can't multiply float32 matrices for compute capability"),
    ],
)
def test_what_is_not_possible_is_one_line_with_the_reason(leakrt, options, code, words):
    require_rtx()
    done = leakrt("build", shared_variants(), "--precision", "fp32", *options)
    assert done.code == code
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_precision_that_the_bundle_lacks_is_named(leakrt, tiny):
    done = leakrt("build", tiny, "--precision", "int8", *RTX)
    assert done.code == 1
    assert "has no int8 variant; it has: fp32" in done.err


def test_a_folder_to_carry_is_signed_and_its_command_is_printed(leakrt, tmp_path, monkeypatch):
    pytest.importorskip("cryptography", reason="signatures need cryptography (extra rtx)")
    require_rtx()
    monkeypatch.setenv("LEAKRT_ENGINE_CACHE_GIB", "0")  # the two that were built are kept all the same
    out = tmp_path / "carried by hand"
    done = leakrt("build", shared_variants(), "--precision", "fp16", *RTX, "--out", out)
    assert done.code == 0, done.err
    names = {"vae_encoder.fp16", "leak_encoder.fp16"}
    expected = {f"{n}.{e}" for n in names for e in ("engine", "json")} | {"engines.json", "engines.sig"}
    assert {p.name for p in out.iterdir()} == expected
    key = json.loads((out / "engines.json").read_text())["signer"]
    command = f"leakrt engines add '{out}' --key {key}"
    assert command in done.err
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "kiosk"))
    added = leakrt(*shlex.split(command)[1:])
    assert added.code == 0, added.err
    assert len(added.lines) == 2
    assert len(leakrt("engines", "verify", "--json").lines) == 2


def test_a_folder_that_holds_other_files_is_refused_before_anything_is_built(leakrt, tmp_path):
    require_rtx()
    (tmp_path / "mine").write_text("mine")
    done = leakrt("build", shared_variants(), "--precision", "fp32", *RTX, "--out", tmp_path)
    assert (done.code, done.err) == (
        1,
        f"leakrt: error: --out {tmp_path}: the folder contains other files; give a new or empty folder\n",
    )
    assert not (tmp_path / "cache" / "leakrt" / "engines").exists()


def test_a_key_that_can_not_sign_is_reported_before_anything_is_built(leakrt, tmp_path):
    pytest.importorskip("cryptography", reason="signatures need cryptography (extra rtx)")
    require_rtx()
    (tmp_path / "config" / "leakrt").mkdir(parents=True)
    (tmp_path / "config" / "leakrt" / "signing.pem").write_text("nothing")
    done = leakrt("build", shared_variants(), "--precision", "fp32", *RTX, "--out", tmp_path / "carried")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "not a private key" in done.err
    assert not (tmp_path / "cache" / "leakrt" / "engines").exists()


def test_without_a_gpu_verify_is_refused_before_anything_is_built(leakrt, no_gpu, tmp_path):
    require_rtx()
    done = leakrt("build", shared_variants(), "--precision", "fp32", *RTX, "--verify")
    assert done.code == 1
    assert done.err == (
        "leakrt: error: --verify needs a GPU: no NVIDIA driver here: libcuda.so.1 can't be loaded; install the driver\n"
    )
    assert not (tmp_path / "cache" / "leakrt" / "engines").exists()


def test_without_a_driver_an_engine_for_this_gpu_is_refused_with_the_way_round(leakrt, no_gpu):
    require_rtx()
    done = leakrt("build", shared_variants(), "--precision", "fp32", "--flavour", "tensorrt-rtx", "--target", "current")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "no NVIDIA driver here: libcuda.so.1 can't be loaded; install the driver, or build for other" in done.err
    assert "--flavour tensorrt-rtx --target 8.6,8.9" in done.err


@pytest.mark.parametrize(
    ("options", "driver", "words"),
    [
        ((), {}, "the NVIDIA driver supports CUDA up to 12.4, but this library needs a newer version; update"),
        ((), {"start": 100}, "no NVIDIA GPU is visible; check CUDA_VISIBLE_DEVICES"),
        (("--device", "5"), {}, "--device 5: no such GPU; this machine has 0: First GPU, 1: Second GPU"),
        (("--device", "-1"), {}, "--device -1: no such GPU; this machine has 0: First GPU, 1: Second GPU"),
        (
            ("--device", "1"),
            {"minor": 9},
            "out of GPU memory while creating a context on GPU 1; stop other processes that use the GPU",
        ),
    ],
    ids=["driver too old", "hidden", "third of two", "none", "full"],
)
def test_a_driver_or_a_gpu_that_can_not_be_used_is_one_line(tmp_path, options, driver, words):
    require_rtx()
    if options == () and not driver and not _for_cuda_13():
        pytest.skip("needs a TensorRT-RTX for CUDA 13")
    where = ("--precision", "fp32", "--flavour", "tensorrt-rtx", "--target", "current")
    done = leakrt_with_driver(tmp_path, "build", shared_variants(), *where, *options, **driver)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr


def test_a_gpu_that_the_library_builds_for_and_refuses_is_reported_before(tmp_path):
    require_rtx()
    where = ("--precision", "fp32", "--flavour", "tensorrt-rtx", "--target", "current", "--device", "1")
    done = leakrt_with_driver(tmp_path, "build", shared_variants(), *where)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "does not run on compute capability 8.7; for 8.7 (Orin) build on that machine with" in done.stderr


def test_an_engine_that_the_library_refuses_is_reported_in_its_words_on_one_line(tmp_path):
    require_rtx()
    pytest.importorskip("polygraphy", reason="the comparison is Polygraphy's (extra rtx)")
    where = ("--precision", "fp32", *RTX, "--verify")
    done = leakrt_with_driver(tmp_path, "build", shared_variants(), *where, version=13000)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert " can't load the engine: " in done.stderr


def _for_cuda_13() -> bool:
    from importlib import metadata

    return "tensorrt-rtx-cu13-libs" in {str(d.metadata["Name"]).replace("_", "-") for d in metadata.distributions()}


def test_without_tensorrt_the_flavour_that_is_there_is_named(leakrt, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    require_rtx()
    done = leakrt("build", shared_variants(), "--precision", "fp32")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "can't import tensorrt" in done.err
    assert "; or build with --flavour tensorrt-rtx for TensorRT-RTX 1." in done.err


def test_another_major_version_of_tensorrt_is_refused(leakrt, monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("tensorrt")
    module.__version__ = "9.3.0"
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    require_rtx()
    done = leakrt("build", shared_variants(), "--precision", "fp32")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "TensorRT 9.3.0 is not supported; install 8.5, 8.6, 10 or 11" in done.err


@pytest.fixture
def stand_in(monkeypatch):
    """Engines are built as always; running one is left to ONNX Runtime, on its ONNX after `change`."""
    require_rtx()
    pytest.importorskip("polygraphy", reason="the comparison is Polygraphy's (extra rtx)")
    from leakrt.engines import verify
    from leakrt.engines.build import build, builder
    from leakrt.engines.library.device import TargetDevice

    models: dict[bytes, bytes] = {}
    real = builder.build_engine

    def building(flavour, job, needs_gpu, progress):
        built = real(flavour, job, False, progress=progress)
        models[built.data] = job.model
        return built

    def install(change):
        for module in (build, verify):
            monkeypatch.setattr(module, "build_engine", building)
        for module in (verify, __import__("leakrt.engines.library.device", fromlist=["x"])):
            monkeypatch.setattr(module, "find_device", lambda index: TargetDevice(name="NVIDIA A", capability="8.6"))
        monkeypatch.setattr(verify, "use_device", lambda index: nullcontext())
        monkeypatch.setattr(
            verify, "engine_runner", lambda flavour, engine, profile: verify.reference_runner(change(models[engine]))
        )

    return install


def test_verify_compares_every_output_at_every_batch(leakrt, stand_in):
    stand_in(lambda model: model)
    done = leakrt("build", shared_variants(), "--precision", "fp16", *RTX, "--batch", "1,3", "--verify")
    assert done.code == 0, done.err
    reported = [line for line in done.err.splitlines() if ": agrees, " in line]
    outputs = ("latent", "scores", "embedding", "gates", "step_weights")
    assert [t.split(":")[1].split(",")[0].split()[1] for t in reported] == [outputs[0]] * 2 + list(outputs[1:]) * 2
    assert "vae_encoder latent, batch 3: agrees, error 0.00e+00 of its spread (limit 2.00e-02)" in done.err
    assert "leak_encoder scores, batch 6: agrees" in done.err


def test_verify_of_engines_for_other_gpus_is_refused_before_anything_is_built(leakrt, stand_in, tmp_path):
    stand_in(lambda model: model)
    where = ("--precision", "fp32", "--flavour", "tensorrt-rtx", "--target", "8.9,12.0", "--verify")
    done = leakrt("build", shared_variants(), *where)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--verify: NVIDIA A has compute capability 8.6, which is not a target; add it to --target" in done.err
    assert not (tmp_path / "cache" / "leakrt" / "engines").exists()


def test_where_onnx_runtime_is_too_old_for_float16_around_int8_verify_takes_the_bundles_own_graph(
    leakrt, stand_in, monkeypatch
):
    """As on JetPack 6, whose Python has no newer one."""
    from leakrt.engines.build import parity

    stand_in(lambda model: model)
    monkeypatch.setattr(parity, "_HALF_QDQ_SINCE", (99, 0))
    done = leakrt("build", shared_variants(), "--precision", "int8", *RTX, "--verify")
    assert done.code == 0, done.err
    reported = [line for line in done.err.splitlines() if ": agrees, " in line]
    assert [line.split()[2] for line in reported] == ["latent,", "scores,", "embedding,", "gates,", "step_weights,"]
    assert all("0.00e+00" not in line for line in reported)  # two graphs were compared, not one with itself
    assert "vae_encoder: compared with the graph of the bundle; the search for the first bad layer needs" in done.err


def test_what_verify_found_is_in_the_json(leakrt, stand_in):
    stand_in(lambda model: model)
    done = leakrt("build", shared_variants(), "--precision", "fp32", *RTX, "--batch", "1,3", "--verify", "--json")
    vae, leak = map(json.loads, done.lines)
    same = {"error": 0.0, "limit": 1e-3, "agrees": True}
    assert vae["verify"] == [{"output": "latent", "batch": batch, **same} for batch in (1, 3)]
    assert [(found["output"], found["batch"]) for found in leak["verify"]][:2] == [("scores", 2), ("embedding", 2)]


def test_verify_names_the_first_layer_that_is_off(leakrt, stand_in):
    onnx = pytest.importorskip("onnx")
    np = pytest.importorskip("numpy")

    def spoil(model):
        """The second convolution of the VAE encoder with other weights, in whatever part of the graph it stands."""
        graph = onnx.load_model_from_string(model)
        for tensor in graph.graph.initializer:
            if graph.graph.input[0].name == "image" and tensor.name == "w1":
                tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * 1.2).astype(np.float32).tobytes()
        return graph.SerializeToString()

    stand_in(spoil)
    done = leakrt("build", shared_variants(), "--precision", "fp32", *RTX, "--verify")
    assert done.code == 1
    assert "vae_encoder latent, batch 1: differs" in done.err
    assert "leak_encoder scores, batch 2: agrees" in done.err
    bad = next(line for line in done.err.splitlines() if "first wrong layer: " in line)
    assert "(Conv), error " in bad
    assert "before it 0.00e+00, found in" in bad
