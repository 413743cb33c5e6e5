"""Memory of a slot: layout of parts and frames, growth of the staging buffer, and that everything is freed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from host_device import HostDevice, view

from leakrt.core.bundle import Bundle
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.core.preprocess import seen
from leakrt.runtime.backends.device_memory import ALIGNMENT, OutOfMemoryError
from leakrt.runtime.backends.staging import frames_size
from leakrt.runtime.backends.tensorrt.buffers import (
    Buffers,
    block_size,
    result_parts,
    tensor_size,
)

FIRST_ROOM = 1 << 20  # bytes of the staging buffer before the first frame
NAMES = ("image", "latent", "noised", "scores", "embedding", "gates", "step_weights")
FLOATS = dict.fromkeys(NAMES, "float32")
HALVES = {**FLOATS, "image": "float16", "latent": "float16", "noised": "float16"}


@pytest.fixture
def spec(tiny):
    return replace(Bundle(tiny).spec, draws=3)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noted(monkeypatch, device) -> list[tuple[str, int, str]]:
    """Record the allocations: side, bytes and label."""
    asked = []
    for side in ("allocate", "allocate_host"):

        def allocate(size, what, side=side, real=getattr(device, side)):
            asked.append((side, size, what))
            return real(size, what)

        monkeypatch.setattr(device, side, allocate)
    return asked


@pytest.mark.parametrize("types", [FLOATS, HALVES], ids=["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 5])
def test_results_have_a_row_per_draw_and_do_not_overlap(spec, batch, types):
    parts = result_parts(spec, batch, types)
    steps, classes, width = len(spec.timesteps), len(spec.class_names), spec.embedding_dim
    rows = batch * spec.draws
    assert {name: part.shape for name, part in parts.items()} == {
        "latent": (batch, *spec.latent_shape), "scores": (rows, classes), "embedding": (rows, width),
        "gates": (rows, width), "step_weights": (rows, steps),
    }  # fmt: skip
    assert all(part.offset % ALIGNMENT == 0 for part in parts.values())
    block = np.zeros(block_size(parts), np.uint8)
    for number, part in enumerate(parts.values()):
        part.of(block)[...] = number + 1
    for number, (name, part) in enumerate(parts.items()):
        assert part.of(block).dtype == np.dtype(types[name])
        assert (part.of(block) == number + 1).all(), name


def test_a_part_is_a_view_and_its_size_counts_its_type(spec):
    part = result_parts(spec, 1, HALVES)["latent"]
    assert part.size == 2 * int(np.prod(spec.latent_shape))
    block = np.zeros(part.offset + part.size, np.uint8)
    part.of(block)[...] = 1.5
    assert block.any()


def test_a_tensor_takes_rows_times_its_shape(spec):
    image = vae_encoder_graph(spec).input
    assert tensor_size(image, 7, "float16") == 2 * 7 * 3 * spec.image_size**2
    assert tensor_size(leak_encoder_graph(spec).input, 0, "float32") == 0


def test_each_allocation_has_a_label_and_size_and_is_freed(spec, monkeypatch):
    device = HostDevice()
    asked = noted(monkeypatch, device)
    buffers = Buffers(device, spec, 5, types=HALVES, workspace=777)
    rows, size = 15, block_size(result_parts(spec, 5, HALVES))
    noised = 2 * rows * len(spec.timesteps) * int(np.prod(spec.latent_shape))
    assert asked == [
        ("allocate", 2 * 5 * 3 * spec.image_size**2, "the images of a batch of 5"),
        ("allocate", noised, "the noised latents of a batch of 5"),
        ("allocate", size, "the results of a batch of 5"),
        ("allocate", 777, "the engines' work on a batch of 5"),
        ("allocate_host", size, "the results of a batch of 5"),
        ("allocate_host", FIRST_ROOM, "the staging buffer of a batch of 5"),
        ("allocate", FIRST_ROOM, "the staging buffer of a batch of 5"),
    ]
    assert device.held() == sum(size for _, size, _ in asked)
    buffers.close()
    buffers.close()
    device.close()  # raises if memory is still allocated


def test_no_buffer_has_zero_bytes_which_a_gpu_does_not_allocate(spec, monkeypatch):
    device = HostDevice()
    asked = noted(monkeypatch, device)
    buffers = Buffers(device, spec, 1, types=FLOATS, workspace=0)
    assert min(size for _, size, _ in asked) == buffers.workspace.size == 1
    buffers.close()
    device.close()


@pytest.mark.parametrize("room", range(7))
def test_out_of_memory_at_any_buffer_frees_the_others(spec, monkeypatch, room):
    """`room`: how many of the seven buffers fit."""
    plenty = HostDevice()
    asked = noted(monkeypatch, plenty)
    Buffers(plenty, spec, 2, types=FLOATS, workspace=4096).close()
    device = HostDevice(limit=sum(size for _, size, _ in asked[: room + 1]) - 1)
    with pytest.raises(OutOfMemoryError) as error:
        Buffers(device, spec, 2, types=FLOATS, workspace=4096)
    assert (error.value.wanted, error.value.what) == asked[room][1:]
    assert device.held() == 0
    device.close()


@pytest.mark.parametrize("mapped", [True, False])
def test_staged_frames_are_at_the_addresses_passed_to_the_kernel(spec, mapped):
    device = HostDevice(mapped=mapped)
    buffers = Buffers(device, spec, 2, types=FLOATS, workspace=1)
    stream, size = device.stream(), spec.image_size
    frames = [frame(41, 53), frame(7, 300, 1), frame(900, 1300, 2)]  # the last is more than a piece
    pieces, where = buffers.stage(frames)
    count = 0
    for address, piece in pieces:
        device.copy_in(address, piece, stream)
        stream.synchronize()
        piece[:] = 0  # the kernel must read the device, not this buffer
        count += 1
    assert (count > 1) is not mapped  # a GPU that maps host memory gets no copies
    for given, (address, height, width, stride) in zip(frames, where, strict=True):
        rows, columns = seen(height, width, size)
        found = view(address + rows.start * stride + 3 * columns.start, (rows.stop - rows.start, stride), "uint8")
        np.testing.assert_array_equal(found.ravel(), given[rows, columns].ravel())
        assert (height, width) == given.shape[:2]
    buffers.close()
    device.close()


def test_the_staging_buffer_grows_by_half_and_never_shrinks(spec, monkeypatch):
    device = HostDevice()
    buffers = Buffers(device, spec, 1, types=FLOATS, workspace=1)
    asked = noted(monkeypatch, device)
    first = frame(900, 900)  # 2.4 MB
    buffers.stage([first])
    (host, size, what), (side, same, _) = asked
    assert (host, side, what) == ("allocate_host", "allocate", "the staging buffer of frames of 900 x 900")
    assert same == size == frames_size([first], spec.image_size)  # more than twice the previous size
    held = device.held()
    buffers.stage([frame(900, 850)])
    buffers.stage([frame(3, 3)])
    assert len(asked) == 2
    assert device.held() == held
    grown = frame(905, 905)
    buffers.stage([grown])
    buffers.stage([frame(1050, 1050)])  # within the 50 % of slack: no third allocation
    assert [size for _, size, _ in asked[2:]] == [frames_size([grown], spec.image_size) * 3 // 2] * 2
    buffers.close()
    device.close()


def test_frames_that_do_not_fit_keep_the_old_staging_buffer(spec):
    device = HostDevice(limit=5 << 20)
    buffers = Buffers(device, spec, 1, types=FLOATS, workspace=1)
    held = device.held()
    given = frame(41, 53)
    _, before = buffers.stage([given])
    for side in (900, 1200):  # memory is left on the host only, and on neither side
        with pytest.raises(OutOfMemoryError, match=f"the staging buffer of frames of {side} x {side}"):
            buffers.stage([frame(side, side)])
        assert device.held() == held
    _, after = buffers.stage([given])
    assert after == before
    buffers.close()
    device.close()


@pytest.mark.parametrize("mapped", [True, False])
def test_other_input_shares_the_staging_buffer(spec, mapped):
    device = HostDevice(mapped=mapped)
    buffers = Buffers(device, spec, 1, types=FLOATS, workspace=1)
    before = device.held()
    assert buffers.staging(1000).nbytes == 1000
    assert device.held() == before
    assert buffers.staging(2 * FIRST_ROOM).nbytes == 2 * FIRST_ROOM
    assert device.held() > before
    buffers.close()
    device.close()
