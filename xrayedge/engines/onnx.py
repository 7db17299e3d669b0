"""ONNX files through ONNX Runtime, on the CPU or on an accelerator that its build supports."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..machine import cpu_features, has_vnni
from .external_data import has_external_data

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
XNNPACK_PROVIDER = "XnnpackExecutionProvider"

#: TensorRT's workspace for trying kernels. A Jetson shares its memory with everything else.
TENSORRT_WORKSPACE_BYTES = 1 << 30

_log = logging.getLogger(__name__)


def session_options(threads: int) -> Any:
    """``onnxruntime.SessionOptions`` with which int8 files give exact results on any processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # On x86 without VNNI the fast int8 kernels saturate at 16 bits; this selects exact ones
    # (docs/quantisation.md). With VNNI the fast ones are exact, and this only costs time.
    if not has_vnni(cpu_features()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxEngine:
    """An ONNX model that uses no more CPU threads than requested.

    Parameters
    ----------
    model
        An ONNX file's bytes.
    threads
        Processor threads that one `run` may use.
    providers
        ONNX Runtime's execution providers, in order of preference. The CPU always comes last. If
        the first is not available a `RuntimeWarning` says so; the property ``provider`` names the
        one that runs.

    Notes
    -----
    TensorRT builds an engine for each model and GPU, which takes minutes. It is cached in
    ``~/.cache/xrayedge/tensorrt/`` (or in ``XDG_CACHE_HOME``) under the model's sha256, not in the
    bundle's folder: TensorRT executes the code in an engine, and a bundle may come from anyone.
    """

    def __init__(self, model: bytes, threads: int, providers: Sequence[str] = ()) -> None:
        import onnxruntime

        _refuse_external_data(model)
        options = session_options(threads)
        wanted = list(takewhile(lambda name: name != CPU_PROVIDER, providers))
        built_in = onnxruntime.get_available_providers()
        left = [name for name in dict.fromkeys(wanted) if name in built_in]
        kept = _kept(model) if TENSORRT_PROVIDER in left else None
        reasons = []
        while True:
            chosen = [(name, provider_options(name, threads, kept)) for name in left]
            try:
                self._session = onnxruntime.InferenceSession(
                    model,
                    options,
                    providers=[*chosen, CPU_PROVIDER],
                    enable_fallback=0,  # ONNX Runtime's own prints to stdout and skips CUDA
                )
                break
            except Exception as error:  # ONNX Runtime's own exceptions share no public base
                if not left:
                    raise EngineError(f"ONNX Runtime can't load the model: {error}") from error
                reasons.append(f"{left.pop(0)}: {error}")
        if wanted and self.provider != wanted[0]:
            why = f" ({reasons[0]})" if reasons else ""
            warnings.warn(
                f"{wanted[0]} was asked for and {self.provider} runs instead{why}; is its build of "
                "ONNX Runtime, with its libraries, installed?",
                RuntimeWarning,
                stacklevel=2,
            )
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


def provider_options(name: str, threads: int, kept: Path | None) -> dict[str, Any]:
    """The options of an execution provider; none for one that is not known here.

    Parameters
    ----------
    name
        ONNX Runtime's name for it.
    threads
        Processor threads.
    kept
        Where TensorRT keeps its engine and its timings of kernels.
    """
    if name == TENSORRT_PROVIDER:
        caching = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(kept),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(kept),
        }
        return {
            "trt_int8_enable": True,  # where the file has QDQ nodes, with its scales
            "trt_fp16_enable": True,  # elsewhere
            "trt_max_workspace_size": TENSORRT_WORKSPACE_BYTES,
            **(caching if kept else {}),
        }
    if name == CUDA_PROVIDER:
        return {"arena_extend_strategy": "kSameAsRequested"}  # by default it doubles
    if name == XNNPACK_PROVIDER:
        return {"intra_op_num_threads": threads}  # it has a pool of its own
    return {}


def _refuse_external_data(model: bytes) -> None:
    try:
        external = has_external_data(model)
    except ValueError as error:
        raise EngineError(f"ONNX Runtime can't load the model: {error}") from error
    if external:
        raise EngineError(
            "the ONNX model keeps tensors in other files, which nobody has checked: save it as "
            "one file (onnx.save_model without save_as_external_data)"
        )


def _kept(model: bytes) -> Path | None:
    """The folder of TensorRT's engine for this model; says so where it has to be built first."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache")
    digest = hashlib.sha256(model).hexdigest()
    folder: Path | None
    try:
        folder = Path(caches).expanduser() / "xrayedge" / "tensorrt" / digest
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        where = f"it is kept in {folder}"
    except (OSError, RuntimeError) as error:  # not to be written; a user without a home
        where = f"it is not kept ({error}); set XDG_CACHE_HOME to a folder that can be written"
        folder = None
    if folder is None or not any(folder.glob("*.engine")):
        _log.warning("TensorRT builds its engine for this model, which takes minutes; %s", where)
    return folder
