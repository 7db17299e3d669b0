import numpy as np
import pytest

from xrayedge import EngineError, ModelBundle
from xrayedge.engines import ENGINES, available, open_engine

INSTALLED = available()


def model_bytes(engine):
    bundle = ModelBundle.load("vgg16")
    variant = bundle.frontal.network.variant(ENGINES[engine].model_format, "int8")
    assert variant is not None
    return bundle.read(variant)


def test_litert_comes_first():
    assert INSTALLED[0] == "litert"


@pytest.mark.parametrize("engine", INSTALLED)
def test_several_pictures_give_what_each_gives_alone(engine):
    opened = open_engine(engine, model_bytes(engine), threads=1)
    inputs = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 1), np.uint8)
    together = opened.run(inputs)
    assert together.dtype == np.float32
    for one, expected in zip(inputs, together, strict=True):
        assert np.array_equal(opened.run(one[np.newaxis])[0], expected)


@pytest.mark.parametrize("engine", INSTALLED)
def test_a_result_is_not_overwritten_by_the_next(engine):
    opened = open_engine(engine, model_bytes(engine), threads=1)
    first = opened.run(np.zeros((1, 96, 96, 1), np.uint8))
    kept = first.copy()
    opened.run(np.full((1, 96, 96, 1), 255, np.uint8))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("engine", INSTALLED)
def test_a_file_that_is_no_model_is_one_clear_error(engine):
    with pytest.raises(EngineError, match="can't load"):
        open_engine(engine, b"not a model" * 100, threads=1)


@pytest.mark.parametrize("engine", INSTALLED)
def test_an_input_of_the_wrong_size_is_one_clear_error(engine):
    opened = open_engine(engine, model_bytes(engine), threads=1)
    with pytest.raises(EngineError, match="can't run"):
        opened.run(np.zeros((1, 10, 10, 1), np.uint8))


def test_unknown_engines_and_threads_are_refused():
    with pytest.raises(EngineError, match="litert, onnx"):
        open_engine("tensorrt", b"", threads=1)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="threads"):
        open_engine("litert", b"", threads=0)
