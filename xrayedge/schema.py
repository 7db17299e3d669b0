"""Build dataclasses from JSON that may come from anyone: their type hints are the schema."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

#: Of a refused value, that much is shown.
_SHOWN = 100

_Built = TypeVar("_Built")


def decode(kind: type[_Built], values: Any, where: str) -> _Built:
    """Build a dataclass from parsed JSON, by its type hints.

    Parameters
    ----------
    kind
        A dataclass of plain values, tuples, dictionaries by name and other such dataclasses.
    values
        What `json.loads` gave.
    where
        Name of the place, for the message.

    Raises
    ------
    ValueError
        A value is missing, unknown, of another type, not finite, or refused by the dataclass.
    """
    return cast("_Built", _decode(kind, values, where))


def _decode(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):  # X | None
        return None if value is None else _decode(arguments[0], value, where)
    if origin is Literal:
        _expect(isinstance(value, str) and value in arguments, where, f"one of {arguments}", value)
        return value
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list", value)
        return tuple(_decode(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), where, "an object", value)
        return {key: _decode(arguments[1], one, f"{where}.{key}") for key, one in value.items()}
    if is_dataclass(hint):
        return _decode_dataclass(hint, value, where)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A whole number of more than 1e15 is exact no longer, and may have thousands of digits.
        _expect(number and (isinstance(value, float) or abs(value) < 1e15), where, "a number", "")
        _expect(math.isfinite(value), where, "a finite number", value)
        return value
    _expect(type(value) is hint, where, f"of type {hint.__name__}", value)
    return value


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object", value)
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(value) - set(known))
    _expect(not unknown, where, "without unknown keys", unknown)
    needed = {name for name, field in known.items() if field.default is MISSING}
    _expect(needed <= set(value), where, "complete", sorted(needed - set(value)))
    return kind(**{key: _decode(hints[key], one, f"{where}.{key}") for key, one in value.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _expect(holds: bool, where: str, wanted: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"{where} must be {wanted}: {str(found)[:_SHOWN]!r}")
