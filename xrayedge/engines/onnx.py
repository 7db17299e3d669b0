"""ONNX files through ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError


class OnnxEngine:
    """An ONNX model on the processor, with as many threads as asked and no more."""

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
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
