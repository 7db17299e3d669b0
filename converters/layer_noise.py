"""Which layers int8 damages most: signal-to-quantisation-noise ratio of each layer."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from xrayedge.engines.onnx import CPU_PROVIDER, session_options
from xrayedge.training.network import activation_map_model

from .equalisation import convolutions
from .onnx import static_int8
from .ranges import Ranges

#: Images looked at, and layers named.
IMAGES, WORST = 16, 5
#: Share of the signal that float32's own rounding is; a layer in float has no less.
_FLOAT_NOISE = 1e-14
_THREADS = 2


def signal_to_noise(
    model: keras.Model, ranges: Ranges, inputs: NDArray[np.uint8]
) -> dict[str, float]:
    """Signal-to-noise ratio in decibels of each convolution's output in the int8 file.

    The signal is the float model's output; the noise is the difference from it, which includes that
    of all layers below. 20 dB means an error of one tenth.

    Parameters
    ----------
    model, ranges
        What `onnx.static_int8` takes.
    inputs
        ``uint8 [N, S, S, 1]``.
    """
    graph = onnx.load_model_from_string(static_int8(model, ranges))
    outputs = {
        layer: next(
            node.output[0]
            for node in graph.graph.node
            if node.op_type == "Relu" and f"/{layer}_" in node.name
        )
        for layer in ranges
    }
    for tensor in outputs.values():
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    names = [*outputs.values(), "activation_map"]
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), session_options(_THREADS), providers=[CPU_PROVIDER]
    )
    maps = activation_map_model(model)
    hidden = [layer.output for layer in convolutions(maps)]
    observer = keras.Model(maps.inputs[0], hidden)
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for one in inputs[:, np.newaxis]:
        expected = [np.asarray(output) for output in observer.predict_on_batch(one)]
        found = session.run(names, {"image": one})
        for index, (right, quantised) in enumerate(zip(expected, found, strict=True)):
            last = index == len(names) - 1
            error = (quantised if last else quantised.transpose(0, 2, 3, 1)) - right
            signal[index] += np.square(right, dtype=np.float64).sum()
            noise[index] += np.square(error, dtype=np.float64).sum()
    decibels = 10.0 * np.log10(signal / np.maximum(noise, _FLOAT_NOISE * signal))
    return dict(zip([*outputs, convolutions(maps)[-1].name], map(float, decibels), strict=True))


def report(model: keras.Model, ranges: Ranges, inputs: NDArray[np.uint8]) -> list[str]:
    """Every layer's ratio, then the worst, as lines for a person."""
    found = signal_to_noise(model, ranges, inputs[:IMAGES])
    worst = sorted(found, key=lambda layer: found[layer])[:WORST]
    return [
        *(f"int8 {layer}: {decibels:.1f} dB" for layer, decibels in found.items()),
        f"int8 worst layers: {', '.join(worst)}",
    ]
