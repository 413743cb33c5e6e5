"""Walking and writing the protobuf of an ONNX graph without the onnx package: a kiosk has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FIXED = {1: 8, 5: 4}  # wire type to bytes
_LENGTH = 2  # the wire type of what has a length


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    number: int
    value: memoryview | int  # a view of what has a length or a fixed size, else the number
    raw: memoryview  # all of it, with its tag


def fields(message: memoryview) -> Iterator[Field]:
    """Every field in order. Raises ValueError or IndexError for bytes that are no message."""
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
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield Field(tag >> 3, message[at : at + size], message[begin : at + size])
        at += size


def text(value: memoryview | int) -> str:
    """The value of a string field. Raises ValueError for another kind."""
    if isinstance(value, int):
        raise ValueError("a number where a name should be")
    return bytes(value).decode()


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number, as bytes."""
    return _varint(number << 3) + _varint(value)


def bytes_field(number: int, *parts: bytes | memoryview) -> bytes:
    """A field that holds the `parts` one behind the other, as bytes."""
    return b"".join((_varint(number << 3 | _LENGTH), _varint(sum(map(len, parts))), *parts))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")
