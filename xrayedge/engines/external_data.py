"""Does an ONNX file keep tensors in other files? Those would be read unchecked, from any path.

Only as much of the format as that takes: protobuf's wire format, and where ``onnx.proto`` has
tensors (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The package ``onnx`` is not on a
device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: ``TensorProto.external_data`` and ``TensorProto.data_location``.
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_TENSOR = "tensor"

#: Messages that hold tensors, or messages that do: their fields by number.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}  # fmt: skip

_Span: TypeAlias = tuple[int, int]


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of an ONNX file says that its values are elsewhere.

    Raises
    ------
    ValueError
        The bytes are no protobuf message.
    """
    view = memoryview(model)
    waiting: list[tuple[str, _Span]] = [("model", (0, len(view)))]
    while waiting:  # a list and no recursion: graphs may be nested as deep as a file is long
        kind, span = waiting.pop()
        for number, wire, value in _fields(view, span):
            if kind == _TENSOR and number == _EXTERNAL_DATA:
                return True
            if kind == _TENSOR and number == _DATA_LOCATION and value != (0, 0):
                return True
            inner = _FIELDS[kind].get(number)
            if inner is not None and wire == _BYTES:
                waiting.append((inner, value))
    return False


def _fields(view: memoryview, span: _Span) -> Iterator[tuple[int, int, _Span]]:
    """Each field's number and wire type, and where its bytes are (of a varint: it twice)."""
    at, end = span
    while at < end:
        key, at = _varint(view, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(view, at, end)
            yield number, wire, (value, value)
            continue
        if wire == _BYTES:
            length, at = _varint(view, at, end)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"no protobuf message: wire type {wire}")
        if length > end - at:
            raise ValueError("no protobuf message: a field ends beyond its message")
        yield number, wire, (at, at + length)
        at += length


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("no protobuf message: a number without an end")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no protobuf message: a number of more than 64 bits")
