"""Use a bundle as a finished run, to start training, pruning or conversion from it.

The float file holds the weights, the manifest the recipe. A float32 file holds the exact weights, a
float16 file those rounded to half precision, as the device uses them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from .. import golden
from ..bundle import MANIFEST, ModelBundle, Network, Variant
from ..errors import RunError
from ..lungs import LungFiles
from .network import activation_map_model
from .recipe import Recipe
from .run import LUNGS, MODEL, RECORD, RunRecord
from .train import build_float32, save

#: The arrays of one convolution: kernel ``float32 [h, w, in, out]`` and bias ``float32 [out]``.
Convolution = tuple[NDArray[np.float32], NDArray[np.float32]]


def run_from_bundle(bundle: str | Path | ModelBundle, out: Path) -> RunRecord:
    """Make a finished run folder of a bundle's classifier: ``model.keras`` and ``run.json``.

    Parameters
    ----------
    bundle
        A bundle, the name of an installed one, or a bundle's folder.
    out
        The run folder; it must hold no run.

    Raises
    ------
    BundleError
        There is no such bundle, or it is damaged.
    RunError
        The bundle has no float TFLite file or no recipe, its file is not the network that the
        recipe describes, or gives other scores than the manifest says; or ``out`` holds a run.
    """
    source = bundle if isinstance(bundle, ModelBundle) else ModelBundle.load(bundle)
    if (out / RECORD).exists():
        raise RunError(f"{out}: holds a run; give another folder")
    network = source.classifier
    variant = _float_variant(source)
    record = _record(source, variant)
    content = source.read(variant)
    model = build_float32(record.recipe, len(network.classes))
    _set_weights(model, read_convolutions(content), source)
    _check_scores(model, network, variant, source)
    out.mkdir(parents=True, exist_ok=True)
    save(model, out / MODEL)
    lungs = LungFiles.of(source)
    if lungs is not None:
        lungs.copy_to(out / LUNGS)
    record.write(out)
    return record


@contextmanager
def finished_run(model: str | Path) -> Iterator[Path]:
    """The folder of a finished run: ``model`` itself, or one made from the bundle that it names.

    The folder made from a bundle is temporary and is removed when the context ends.

    Raises
    ------
    RunError, BundleError
        See `run_from_bundle`.
    """
    folder = Path(model)
    # A folder that is neither is most likely a mistyped run: `RunRecord.read` says so.
    if (folder / RECORD).exists() or (folder.is_dir() and not (folder / MANIFEST).exists()):
        yield folder
        return
    with TemporaryDirectory(prefix="xrayedge-run-") as temporary:
        made = Path(temporary) / "run"
        run_from_bundle(str(model), made)
        yield made


def read_convolutions(content: bytes) -> list[Convolution]:
    """The kernels and biases of a float TFLite file's convolutions, in the order they run.

    Parameters
    ----------
    content
        The bytes of a file with float32 or float16 weights.

    Raises
    ------
    RunError
        The weights are not floats.
    """
    # Older flatbuffers modules warn about how the generated code compares versions.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(content)
    graph = file.Subgraphs(0)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]

    def code(operator: Any) -> int:
        kind = file.OperatorCodes(operator.OpcodeIndex())
        # Files written before the field was widened store the code in the deprecated field.
        return int(max(kind.BuiltinCode(), kind.DeprecatedBuiltinCode()))

    # Half-precision weights are widened by a separate operator before they are used.
    widened = {
        operator.Outputs(0): operator.Inputs(0)
        for operator in operators
        if code(operator) == schema.BuiltinOperator.DEQUANTIZE
    }
    types = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2"}

    def values(index: int) -> NDArray[np.float32]:
        tensor = graph.Tensors(widened.get(index, index))
        if tensor.Type() not in types:
            raise RunError("the file's weights are not float32 or float16")
        data = file.Buffers(tensor.Buffer()).DataAsNumpy()
        stored = np.frombuffer(data, types[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
        return np.asarray(stored, np.float32)

    return [
        # OHWI in the file, HWIO in Keras.
        (values(operator.Inputs(1)).transpose(1, 2, 3, 0), values(operator.Inputs(2)))
        for operator in operators
        if code(operator) == schema.BuiltinOperator.CONV_2D
    ]


def _float_variant(bundle: ModelBundle) -> Variant:
    network = bundle.classifier
    variant = network.variant("tflite", "float32") or network.variant("tflite", "float16")
    if variant is None:
        raise RunError(f"{bundle.folder}: no float32 or float16 TFLite file to take weights from")
    return variant


def _record(bundle: ModelBundle, variant: Variant) -> RunRecord:
    made_from = bundle.provenance.get("classifier", {})
    lungs = LungFiles.of(bundle)
    try:
        recipe = Recipe.from_dict(made_from["recipe"])
        return RunRecord(
            recipe=recipe,
            classes=bundle.classifier.classes,
            data=dict(made_from["data"]),
            versions=dict(made_from["versions"]),
            lungs=lungs.digest() if lungs is not None else None,
            bundle={"name": bundle.name, "version": bundle.version, "sha256": variant.sha256},
            finished=True,
            temperature=bundle.classifier.temperature,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{bundle.folder / MANIFEST}: names no recipe of the classifier ({error})"
        ) from error


def _set_weights(model: keras.Model, convolutions: list[Convolution], bundle: ModelBundle) -> None:
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    expected = [[tuple(array.shape) for array in layer.get_weights()] for layer in layers]
    found = [[array.shape for array in arrays] for arrays in convolutions]
    if found != expected:
        raise RunError(f"{bundle.folder}: the float file is not the network of the recipe")
    for layer, arrays in zip(layers, convolutions, strict=True):
        layer.set_weights(list(arrays))


class _KerasEngine:
    """The model as an engine, so that golden vectors can be checked with it."""

    provider = "keras"

    def __init__(self, model: keras.Model) -> None:
        self._maps = activation_map_model(model)

    def run(self, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self._maps.predict_on_batch(inputs), np.float32)


def _check_scores(
    model: keras.Model, network: Network, variant: Variant, bundle: ModelBundle
) -> None:
    if not variant.golden:
        return
    checked = golden.check(network, _KerasEngine(model), variant.golden)
    if not checked.within_tolerance:
        raise RunError(
            f"{bundle.folder}: the rebuilt network's scores differ from the file's by "
            f"{checked.largest_difference:.4f}"
        )
