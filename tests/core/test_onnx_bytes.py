"""Fields of an ONNX graph's protobuf, read and written without the onnx package."""

from __future__ import annotations

import pytest

from leakrt.core.onnx_bytes import bytes_field, fields, number_field, text


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1])
def test_numbers_round_trip(value):
    (found,) = fields(memoryview(number_field(17, value)))
    assert (found.number, found.value) == (17, value)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000])
def test_bytes_of_any_length_round_trip(size):
    (found,) = fields(memoryview(bytes_field(5, b"a" * size, b"bc")))
    assert (found.number, bytes(found.value)) == (5, b"a" * size + b"bc")


def test_concatenated_raw_fields_equal_the_message():
    message = number_field(1, 5) + bytes_field(2, b"name") + b"\x1d\0\0\x80\x3f" + b"\x21" + b"\1" * 8
    found = list(fields(memoryview(message)))
    assert [f.number for f in found] == [1, 2, 3, 4]
    assert b"".join(f.raw for f in found) == message


@pytest.mark.parametrize("message", [b"\x80", b"\x0a\x05abc", b"\x0b", b"\x08" + b"\xff" * 11, b"\x0d\0\0"])
def test_invalid_bytes_are_an_error(message):
    with pytest.raises((ValueError, IndexError)):
        list(fields(memoryview(message)))


def test_a_name_that_is_a_number_or_invalid_text_is_an_error():
    for value in (3, memoryview(b"\xff\xfe")):
        with pytest.raises(ValueError):
            text(value)


def test_fields_match_those_written_by_onnx():
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(__import__("numpy").arange(300, dtype="float32"), "weights")
    found = {f.number: f.value for f in fields(memoryview(tensor.SerializeToString()))}
    assert (text(found[8]), found[2], len(found[9])) == ("weights", 1, 1200)
