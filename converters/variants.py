"""The files that a network can be converted to, and the function that makes each."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from xrayedge.bundle import ModelFormat, Precision
from xrayedge.errors import ConversionError

from . import onnx, tflite
from .int8 import Int8
from .quiet import quiet_converters

VariantName = tuple[ModelFormat, Precision]

#: Every file that a network can be converted to.
VARIANTS: tuple[VariantName, ...] = (
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "dynamic"),
    ("tflite", "int8"),
    ("onnx", "float32"),
    ("onnx", "int8"),
)
#: What a device needs of the frontal check: one small file for each engine.
FRONTAL_VARIANTS: tuple[VariantName, ...] = (("tflite", "int8"), ("onnx", "int8"))
#: Precisions whose weights are rounded to int8 before the file is made.
INT8_WEIGHTS: tuple[Precision, ...] = ("dynamic", "int8")


def variants_of(
    formats: Sequence[ModelFormat] = (), precisions: Sequence[Precision] = ()
) -> tuple[VariantName, ...]:
    """The variants with these formats and precisions; an empty argument means all.

    Raises
    ------
    ConversionError
        There is no such variant.
    """
    chosen = tuple(
        (model_format, precision)
        for model_format, precision in VARIANTS
        if (not formats or model_format in formats) and (not precisions or precision in precisions)
    )
    if not chosen:
        there = ", ".join(f"{precision} in {model_format}" for model_format, precision in VARIANTS)
        raise ConversionError(f"no such file can be made; there are {there}")
    return chosen


def build(name: VariantName, model: keras.Model, int8: Int8 | None) -> bytes:
    """Make one file; ``int8`` is needed only for the precisions of `INT8_WEIGHTS`.

    Parameters
    ----------
    name
        Which file.
    model
        The float model.
    int8
        The result of `int8.quantise` for that model.

    Raises
    ------
    ConversionError
        ``int8`` is needed and missing.
    """
    if name[1] in INT8_WEIGHTS and int8 is None:
        raise ConversionError(f"{name[1]} needs the model with int8 weights")
    with quiet_converters():
        return _build(name, model, int8)


def _build(name: VariantName, model: keras.Model, int8: Int8 | None) -> bytes:
    model_format, precision = name
    if int8 is not None and precision in INT8_WEIGHTS:
        if precision == "dynamic":
            return tflite.dynamic_int8(int8.model)
        if model_format == "tflite":
            return int8.tflite
        return onnx.static_int8(int8.model, int8.ranges)
    if model_format == "onnx":
        return onnx.float32(model)
    return {"float32": tflite.float32, "float16": tflite.float16}[precision](model)
