"""Reading and writing the protobuf of an ONNX graph without the onnx package, which a deployment lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FIXED = {1: 8, 5: 4}  # wire type to bytes
_LENGTH = 2  # wire type of length-delimited fields


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    number: int
    value: memoryview | int  # the number of a varint field, else a view of the content
    raw: memoryview  # the whole field, including its tag


def fields(message: memoryview) -> Iterator[Field]:
    """Yield every field in order. Raises ValueError or IndexError for invalid bytes."""
    at = 0
    while at < len(message):
        begin = at
        tag, at = _number(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _number(message, at)
            yield Field(tag >> 3, value, message[begin:at])
            continue
        size = _FIXED.get(wire, 0)
        if wire == _LENGTH:
            size, at = _number(message, at)
        elif not size:
            raise ValueError(f"unknown wire type {wire}")
        if at + size > len(message):
            raise ValueError("the message is truncated")
        yield Field(tag >> 3, message[at : at + size], message[begin : at + size])
        at += size


def text(value: memoryview | int) -> str:
    """Return the value of a string field. Raises ValueError for any other field."""
    if isinstance(value, int):
        raise ValueError("expected a string, found a number")
    return bytes(value).decode()


def number_field(number: int, value: int) -> bytes:
    """Return the bytes of a field that holds a number."""
    return _varint(number << 3) + _varint(value)


def bytes_field(number: int, *parts: bytes | memoryview) -> bytes:
    """Return the bytes of a field that holds the concatenated `parts`."""
    return b"".join((_varint(number << 3 | _LENGTH), _varint(sum(map(len, parts))), *parts))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """Return a varint and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a varint is too long")
