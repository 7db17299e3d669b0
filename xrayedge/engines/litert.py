"""TFLite files through ai-edge-litert, or tflite-runtime if that is all there is."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError


class LiteRTEngine:
    """A TFLite model with batch size 1; several images run one after another."""

    def __init__(self, model: bytes, threads: int) -> None:
        try:
            self._interpreter = _interpreter_class()(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT can't load the model: {error}") from error
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self._lock = threading.Lock()  # an interpreter holds one set of tensors

    @property
    def provider(self) -> str:
        """``XNNPACK`` where its kernels run the model, ``built-in``, or ``unknown``."""
        try:
            # LiteRT has no public way to tell; a release may take this one away.
            operators = self._interpreter._get_ops_details()
            delegated = any(operator["op_name"] == "DELEGATE" for operator in operators)
        except (AttributeError, KeyError, TypeError, RuntimeError):
            return "unknown"
        return "XNNPACK" if delegated else "built-in"

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        return np.concatenate([self._run_one(one) for one in inputs[:, np.newaxis]])

    def _run_one(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            try:
                self._interpreter.set_tensor(self._input["index"], inputs)
                self._interpreter.invoke()
                output = self._interpreter.get_tensor(self._output["index"])
            except (ValueError, RuntimeError) as error:
                raise EngineError(f"LiteRT can't run the model: {error}") from error
        return np.asarray(output, np.float32)


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter
