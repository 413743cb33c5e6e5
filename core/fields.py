"""Type checks of JSON values against the annotations of a dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EXACT = 2**53  # integers up to here are exact in float64


def mistyped(cls: type, values: Mapping[str, object]) -> list[str]:
    """Return one message per value of the wrong type, such as "epochs is not of type int".

    Annotations are compared as text, so the module of the dataclass `cls` needs `from __future__ import annotations`.
    JSON has no tuples: convert lists to tuples first. Fields of types that are not in `_CHECKS` are not checked.
    """
    annotations = cls.__dataclass_fields__  # type: ignore[attr-defined]
    found = []
    for name, value in values.items():
        check = _CHECKS.get(str(annotations[name].type))
        if check is not None and not check(value):
            found.append(f"{name} is not of type {annotations[name].type}")
    return found


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (_is_int(value) and abs(value) <= EXACT)


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _tuple_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(check, value))


def _dict_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(_is_str, value)) and all(map(check, value.values()))


_CHECKS: dict[str, Callable[[object], bool]] = {
    "int": _is_int,
    "bool": lambda value: isinstance(value, bool),
    "str": _is_str,
    "float": _is_float,
    "tuple[str, ...]": _tuple_of(_is_str),
    "tuple[int, ...]": _tuple_of(_is_int),
    "dict[str, str]": _dict_of(_is_str),
    "dict[str, dict[str, int]]": _dict_of(_dict_of(_is_int)),
}
