import numpy as np
import pytest

from xrayedge import EngineError, ModelBundle, shipped_bundles
from xrayedge.engines import ENGINES, available, open_engine
from xrayedge.engines.external_data import has_external_data
from xrayedge.engines.onnx import _kept, provider_options

INSTALLED = available()


def model_bytes(engine):
    bundle = ModelBundle.load("vgg16-edge")
    variant = bundle.frontal.network.variant(ENGINES[engine].model_format, "int8")
    assert variant is not None
    return bundle.read(variant)


def test_litert_comes_first():
    assert INSTALLED[0] == "litert"


@pytest.mark.parametrize("engine", INSTALLED)
def test_several_images_give_what_each_gives_alone(engine):
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


TENSORRT, CUDA, XNNPACK = (f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "Xnnpack"))


@pytest.mark.skipif("onnx" not in INSTALLED, reason="ONNX Runtime is not installed")
def test_a_provider_that_can_not_be_had_is_replaced_with_a_warning(capfd):
    model = model_bytes("onnx")
    inputs = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 1), np.uint8)
    with pytest.warns(RuntimeWarning, match="CUDAExecutionProvider was asked for and CPUExec"):
        opened = open_engine("onnx", model, threads=1, providers=[CUDA, XNNPACK])
    assert opened.provider == "CPUExecutionProvider"
    expected = open_engine("onnx", model, threads=1).run(inputs)
    assert np.array_equal(opened.run(inputs), expected)
    assert capfd.readouterr().out == ""  # stdout is for results


def test_providers_are_onnx_runtime_s():
    with pytest.raises(EngineError, match="ask for the engine onnx"):
        open_engine("litert", model_bytes("litert"), threads=1, providers=[CUDA])


def test_every_provider_gets_its_options(tmp_path):
    tensorrt = provider_options(TENSORRT, 2, tmp_path)
    assert tensorrt["trt_int8_enable"]
    assert tensorrt["trt_fp16_enable"]
    assert tensorrt["trt_engine_cache_path"] == tensorrt["trt_timing_cache_path"] == str(tmp_path)
    assert not any("cache" in name for name in provider_options(TENSORRT, 2, None))
    assert provider_options(XNNPACK, 2, None) == {"intra_op_num_threads": 2}
    assert provider_options("AzureExecutionProvider", 2, None) == {}


def test_a_tensorrt_build_is_announced_once_for_each_model(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = (_kept(content) for content in (b"one model", b"another"))
    assert first.parent == second.parent == tmp_path / "xrayedge" / "tensorrt"
    assert first != second
    assert caplog.text.count("takes minutes; it is kept in") == 2
    (first / "built_sm87.engine").touch()
    assert _kept(b"one model") == first
    assert caplog.text.count("takes minutes") == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _kept(b"one model") is None
    assert "it is not kept" in caplog.text


@pytest.mark.parametrize(
    ("features", "exact"),
    [(("sse4_1", "avx2"), True), (("avx2", "avx_vnni"), False), (("avx512_vnni",), False)],
)
def test_slow_exact_kernels_are_for_processors_without_vnni(monkeypatch, features, exact):
    """Elsewhere they would only cost time; where nothing is known they are taken."""
    onnxruntime = pytest.importorskip("onnxruntime")
    asked = []

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, name, value):
            asked.append(name)
            super().add_session_config_entry(name, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr("xrayedge.engines.onnx.cpu_features", lambda: features)
    network = ModelBundle.load("vgg16-edge").frontal.network
    model = ModelBundle.load("vgg16-edge").read(network.variant("onnx", "int8"))
    open_engine("onnx", model, threads=1)
    assert asked == (["session.x64quantprecision"] if exact else [])


@pytest.mark.parametrize("name", shipped_bundles())
def test_shipped_int8_onnx_files_keep_tensorrt_s_rules(name):
    """Symmetric int8, every zero point 0, scales constant; biases int32, a constant's at that.

    TensorRT itself takes no int32: its provider in ONNX Runtime folds such a bias to float first
    (onnxruntime's pull request 23517).
    """
    onnx = pytest.importorskip("onnx")
    bundle = ModelBundle.load(name)
    variants = [one.variant("onnx", "int8") for one in (bundle.classifier, bundle.frontal.network)]
    for variant in variants:
        graph = onnx.load_model_from_string(bundle.read(variant)).graph
        constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
        biases = {one for node in graph.node if node.op_type == "Conv" for one in node.input[2:]}
        quantised = 0
        for node in graph.node:
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                continue
            scale, zero = (constants[one] for one in node.input[1:])
            assert (scale > 0).all()
            assert not zero.any()
            if zero.dtype == np.int32:
                assert set(node.output) <= biases
                assert node.input[0] in constants
            else:
                assert zero.dtype == np.int8
                quantised += 1
        assert quantised >= 10


def test_an_onnx_file_that_keeps_tensors_elsewhere_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(model_bytes("onnx"))
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, size_threshold=16)
    with pytest.raises(EngineError, match="tensors in other files"):
        open_engine("onnx", path.read_bytes(), threads=1)
    assert not has_external_data(model_bytes("onnx"))


@pytest.mark.parametrize("where", ["constant", "nested", "sparse"])
def test_external_tensors_are_found_wherever_a_model_may_hold_them(where):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL, name="weights")
    model = onnx.ModelProto()
    node = model.graph.node.add()
    if where == "constant":
        node.attribute.add().t.CopyFrom(tensor)
    elif where == "nested":
        node.attribute.add().g.node.add().attribute.add().g.initializer.append(tensor)
    else:
        model.functions.add().node.add().attribute.add().sparse_tensor.values.CopyFrom(tensor)
    assert has_external_data(model.SerializeToString())


def test_bytes_that_are_no_onnx_file_are_refused():
    for content in (b"\xff" * 40, b"\x3a\x7f", b"no model"):
        with pytest.raises(EngineError, match="can't load"):
            open_engine("onnx", content, threads=1)


def test_litert_without_its_private_call_still_runs(monkeypatch):
    engine = open_engine("litert", model_bytes("litert"), threads=1)
    monkeypatch.delattr(type(engine._interpreter), "_get_ops_details")
    assert engine.provider == "unknown"
