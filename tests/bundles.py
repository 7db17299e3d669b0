"""Tiny bundles, made in the test: a network of one convolution beside a shipped frontal check."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xrayedge import ModelBundle, Preprocessing
from xrayedge.bundle import (
    FrontalGate,
    LungSettings,
    Network,
    OpacitySettings,
    OperatingPoint,
    Variant,
)
from xrayedge.lungs import LungFiles
from xrayedge.manifest import EDGES

CLASSES = ("covid", "healthy", "pneumonia")
SIZE, PLACES = 56, 7


def tiny_network(channels: int, size: int = SIZE) -> bytes:
    """An ONNX file: the mean grey of each of 7 x 7 places, minus 0.5, times 10, is its logit.

    Of the class channels the second's is negated; the last of four is the opacity's.
    """
    helper = pytest.importorskip("onnx").helper
    kernel = np.full((channels, 1, 1, 1), 10.0 / 255.0, np.float32)
    kernel[1] *= -1.0
    bias = np.where(kernel[:, 0, 0, 0] > 0, -5.0, 5.0).astype(np.float32)
    step = size // PLACES
    nodes = [
        helper.make_node(
            "AveragePool", ["nchw"], ["places"], kernel_shape=[step, step], strides=[step, step]
        ),
        helper.make_node("Conv", ["places", "kernel", "bias"], ["logits"]),
    ]
    return _onnx_file(nodes, size, PLACES, kernel, bias)


def tiny_finder(box: tuple[float, float, float, float], size: int = SIZE) -> bytes:
    """An ONNX file that finds the lungs in the same place of every image."""
    helper = pytest.importorskip("onnx").helper
    edges = np.asarray(box)
    logits = np.log(edges / (1.0 - edges)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["nchw", "kernel", "bias"], ["logits"])]
    return _onnx_file(nodes, size, 1, np.zeros((4, 1, size, size), np.float32), logits)


def _onnx_file(nodes: list[Any], size: int, places: int, kernel: Any, bias: Any) -> bytes:
    """A network of ``nodes`` from ``nchw`` to ``logits``, with its input and its map."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    whole = [
        helper.make_node("Cast", ["image"], ["grey"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["grey"], ["nchw"], perm=[0, 3, 1, 2]),
        *nodes,
        helper.make_node("Transpose", ["logits"], ["activation_map"], perm=[0, 2, 3, 1]),
    ]
    shape = ["N", places, places, len(bias)]
    graph = helper.make_graph(
        whole,
        "tiny",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", size, size, 1])],
        [helper.make_tensor_value_info("activation_map", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def tiny_lungs(folder: Path, box: tuple[float, float, float, float], margin: float) -> LungFiles:
    """The files of a finder that always finds ``box``."""
    content = tiny_finder(box)
    folder.mkdir(exist_ok=True)
    (folder / "lungs-int8.onnx").write_bytes(content)
    network = Network(
        classes=EDGES,
        preprocessing=Preprocessing(size=SIZE, equalisation="none"),
        temperature=1.0,
        variants=(variant("lungs-int8.onnx", content),),
    )
    return LungFiles(folder, LungSettings(network, margin, {}))


def variant(file: str, content: bytes, precision: str = "int8") -> Variant:
    """The manifest's entry of an ONNX file."""
    digest = hashlib.sha256(content).hexdigest()
    return Variant(file, "onnx", precision, len(content), digest, {})


def tiny_bundle(
    folder: Path,
    *,
    opacity: OpacitySettings | None = None,
    frontal_threshold: float = 0.0,
    lungs: tuple[float, float, float, float] | None = None,
    margin: float = 0.05,
) -> ModelBundle:
    """A bundle of ONNX files only, whose frontal check passes everything unless told otherwise."""
    folder.mkdir()
    shipped = ModelBundle.load("vgg16-edge")
    check = shipped.frontal.network.variant("onnx", "int8")
    assert check is not None
    (folder / check.file).write_bytes(shipped.read(check))
    content = tiny_network(len(CLASSES) + (opacity is not None))
    (folder / "classifier-int8.onnx").write_bytes(content)
    network = Network(
        classes=CLASSES,
        preprocessing=Preprocessing(size=SIZE, equalisation="none"),
        temperature=1.0,
        variants=(variant("classifier-int8.onnx", content),),
        operating_points=(OperatingPoint("balanced", dict.fromkeys(CLASSES, 1.0), 0.5),),
        opacity=opacity,
    )
    frontal = shipped.frontal.network
    bundle = ModelBundle(
        folder=folder,
        name="tiny",
        version="1",
        classifier=network,
        frontal=FrontalGate(
            Network(frontal.classes, frontal.preprocessing, frontal.temperature, (check,)),
            shipped.frontal.label,
            frontal_threshold,
        ),
        provenance={},
        lungs=None if lungs is None else tiny_lungs(folder, lungs, margin).settings,
    )
    bundle.write_manifest()
    return bundle
