"""The dialect of TensorRT-RTX, on the real library, which builds without a GPU."""

from __future__ import annotations

import pytest
from bundles import TINY_SPEC, vae_encoder

from leakrt.core.errors import UsageError
from leakrt.core.progress import silent
from leakrt.engines.build.builder import BuildJob, BuildOptions, build_engine
from leakrt.engines.library.logger import Messages, construct, listening, shared_logger
from leakrt.engines.library.rtx import CURRENT, PORTABLE


def build(flavour, *targets: str, **options):
    job = BuildJob(
        name="vae_encoder",
        model=vae_encoder(TINY_SPEC),
        precision="fp32",
        batches=(1,),
        options=BuildOptions(targets=targets, **options),
        device=0,
    )
    return build_engine(flavour, job, False, progress=silent)


def test_the_library_has_every_listed_capability(rtx):
    for target in (*rtx.targets, CURRENT):
        assert "SM" in str(rtx._capability(target)) or target == CURRENT


def test_every_capability_of_the_library_is_listed(rtx):
    known = rtx.trt.ComputeCapability
    named = {rtx._capability(target) for target in (*rtx.targets, CURRENT)}
    assert {getattr(known, name) for name in known.__members__} - named == {known.NONE}


def test_an_engine_contains_the_names_of_its_targets(rtx):
    """Engine files contain the names of their targets as text."""
    for targets, words in ((("8.6",), b"sm86"), (("8.9", "12.0"), b"sm89 sm120")):
        assert words in build(rtx, *targets).data
    assert b"sm120" not in build(rtx, "8.6").data


@pytest.mark.parametrize("target", ["7.2", "8.7", "9.0", "10.0", "11.0"])
def test_unsupported_boards_are_refused_with_the_flavour_that_supports_them(rtx, target):
    with pytest.raises(
        UsageError, match=rf"can't build for compute capability {target}; .*for {target} \(\w+.*--flavour"
    ):
        rtx.check_targets((target,))


@pytest.mark.parametrize("capability", ["7.2", "8.7", "9.0", "10.0", "11.0"])
def test_gpus_that_can_not_load_their_engines_are_refused_before_the_build(rtx, capability):
    assert f"does not run on compute capability {capability}" in rtx.gpu_problem(capability)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1", "13.0", ""])
def test_supported_gpus_have_no_problem(rtx, capability):
    assert rtx.gpu_problem(capability) == ""


@pytest.mark.parametrize("target", ["", "8", "86", "sm86", "8.6 ", "99.0"])
def test_an_invalid_capability_is_refused_with_the_valid_ones(rtx, target):
    with pytest.raises(UsageError, match=r"choose from: 7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1$"):
        rtx.check_targets((target,))


@pytest.mark.parametrize("alone", [PORTABLE, CURRENT])
def test_a_named_target_can_not_be_combined(rtx, alone):
    rtx.check_targets((alone,))
    with pytest.raises(UsageError, match=f"--target {alone} can't be combined"):
        rtx.check_targets((alone, "8.6"))


def test_turing_can_not_be_combined_with_other_targets(rtx):
    rtx.check_targets(("7.5",))
    with pytest.raises(UsageError, match=r"build it separately: --target 7\.5"):
        rtx.check_targets(("7.5", "8.6"))


@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning", "ignore:Use Deprecated:DeprecationWarning")
def test_loading_a_stored_timing_cache_needs_a_gpu(rtx, no_gpu):
    """This is why `has_timing_cache` is False."""
    messages = Messages()
    with listening(messages):
        config = construct(rtx.trt.Builder, shared_logger(rtx.trt)).create_builder_config()
        stored = bytes(config.create_timing_cache(b"").serialize())
        assert messages.errors == []
        config.create_timing_cache(stored)
    assert "cudaError 35" in " ".join(messages.errors)
    assert "The timing cache will not be used!" in messages.warnings


def test_levels_and_dlas_are_not_supported(rtx):
    assert not rtx.has_levels
    assert "use --flavour tensorrt on a Jetson" in rtx.dla_problem("fp16")


def test_an_engine_can_not_be_opened_without_a_gpu(rtx, no_gpu):
    """This is why `inspect` parses the build log."""
    data, messages = build(rtx, "8.6").data, Messages()
    with listening(messages):
        assert rtx.deserialize(data) is None
    assert messages.errors
