"""The engine protocol, and which engine runs which format."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelFormat
from ..errors import EngineError

EngineName = Literal["litert", "onnx"]


class Engine(Protocol):
    """A loaded model file.

    ``provider`` names what runs it: an execution provider or a delegate.
    """

    @property
    def provider(self) -> str:
        """The kernels that run it, as the engine itself reports them."""
        ...

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model.

        Parameters
        ----------
        inputs
            ``uint8 [N, size, size, 1]``.

        Returns
        -------
        ``float32 [N, h, w, channels]``, owned by the caller.
        """
        ...


@dataclass(frozen=True)
class _EngineKind:
    """The format of an engine's files, and the packages of which any one has it."""

    model_format: ModelFormat
    packages: tuple[str, ...]
    remedy: str


#: The engines in order of preference.
ENGINES: dict[EngineName, _EngineKind] = {
    "litert": _EngineKind(
        "tflite", ("ai_edge_litert", "tflite_runtime"), "pip install ai-edge-litert"
    ),
    "onnx": _EngineKind("onnx", ("onnxruntime",), "pip install onnxruntime"),
}


def available() -> tuple[EngineName, ...]:
    """The engines that are installed, in order of preference; none is loaded."""
    return tuple(name for name, kind in ENGINES.items() if any(map(find_spec, kind.packages)))


def preferred_engine(formats: Collection[ModelFormat] = ()) -> EngineName:
    """The first engine that is installed and runs files of one of these formats; none named: any.

    Raises
    ------
    EngineError
        There is none.
    """
    wanted = [name for name, kind in ENGINES.items() if not formats or kind.model_format in formats]
    for name in available():
        if name in wanted:
            return name
    remedies = " or ".join(ENGINES[name].remedy for name in wanted)
    if available():
        raise EngineError(
            f"the model has {' and '.join(sorted(formats))} files only, and no engine for them is "
            f"installed; {remedies}"
        )
    raise EngineError(f"no inference engine is installed; {remedies}")


def open_engine(
    name: EngineName, model: bytes, *, threads: int, providers: Sequence[str] = ()
) -> Engine:
    """Load a model file's bytes into an engine.

    Parameters
    ----------
    name
        Which engine.
    model
        The bytes of a file in that engine's format.
    threads
        Processor threads that one `run` may use.
    providers
        Of `OnnxEngine`; without any, the processor.

    Raises
    ------
    EngineError
        There is no such engine, it is not installed, it has no providers, or it can't load the
        model.
    """
    if name not in ENGINES:
        raise EngineError(f"no engine {name!r}; there are {', '.join(get_args(EngineName))}")
    if threads < 1:
        raise EngineError(f"threads must be at least 1, not {threads}")
    if name not in available():
        raise EngineError(f"the engine {name} is not installed; {ENGINES[name].remedy}")
    if name == "litert":
        if providers:
            raise EngineError("execution providers are ONNX Runtime's; ask for the engine onnx")
        from .litert import LiteRTEngine

        return LiteRTEngine(model, threads)
    from .onnx import OnnxEngine

    return OnnxEngine(model, threads, providers)
