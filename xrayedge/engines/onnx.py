"""ONNX files through ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError

CPU_PROVIDER = "CPUExecutionProvider"


class OnnxEngine:
    """An ONNX model on the processor, with as many threads as asked and no more.

    Parameters
    ----------
    model
        An ONNX file's bytes.
    threads
        Processor threads that one `run` may use.
    provider
        ONNX Runtime's execution provider; it falls back to the processor without a word, so
        ask the property ``provider`` which one it became.
    """

    def __init__(self, model: bytes, threads: int, provider: str = CPU_PROVIDER) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # On x86 without VNNI the fast int8 kernels saturate at 16 bits; this takes exact ones
        # there and changes nothing elsewhere (docs/quantisation.md).
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=[provider])
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            raise EngineError(f"ONNX Runtime can't load the model: {error}") from error
        self._input = self._session.get_inputs()[0].name

    @property
    def provider(self) -> str:
        """The execution provider of most weight in the session."""
        return str(self._session.get_providers()[0])

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        try:
            outputs = self._session.run(None, {self._input: inputs})
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime can't run the model: {error}") from error
        return np.asarray(outputs[0], np.float32)
