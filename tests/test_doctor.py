import shutil
from dataclasses import replace

import pytest

from xrayedge import ModelBundle, doctor, golden
from xrayedge.bundle import SHIPPED
from xrayedge.engines import ENGINES, available, open_engine
from xrayedge.machine import describe


@pytest.fixture
def with_golden(tmp_path):
    """A copy of a shipped bundle whose frontal check has golden vectors, and no classifier."""
    folder = tmp_path / "golden"
    folder.mkdir()
    bundle = ModelBundle.load("vgg16-edge")
    network, variants = bundle.frontal.network, []
    for variant in network.variants:
        shutil.copy(SHIPPED / "vgg16-edge" / variant.file, folder)
        vectors = ()
        for name in available():
            if ENGINES[name].model_format == variant.format:
                engine = open_engine(name, bundle.read(variant), threads=1)
                vectors = golden.measure(network, engine, variant.precision)
        variants.append(replace(variant, golden=vectors))
    gate = replace(bundle.frontal, network=replace(network, variants=tuple(variants)))
    classifier = replace(bundle.classifier, variants=())
    copied = replace(bundle, folder=folder, classifier=classifier, frontal=gate, lungs=None)
    copied.write_manifest()
    return copied


def test_a_sound_device_is_healthy(with_golden):
    diagnosis = doctor.diagnose([with_golden.folder])
    assert diagnosis.healthy
    assert [check.engine for check in diagnosis.checks] == list(available())
    assert all(check.status == "ok" for check in diagnosis.checks)
    assert all(check.largest_difference < 1e-5 for check in diagnosis.checks)
    litert = diagnosis.checks[0]
    assert litert.provider in ("XNNPACK", "built-in")


def test_scores_that_differ_are_found(with_golden):
    network = with_golden.frontal.network
    wrong = replace(
        network.variants[0],
        golden=tuple(
            replace(vector, probabilities=vector.probabilities[::-1])
            for vector in network.variants[0].golden
        ),
    )
    gate = replace(with_golden.frontal, network=replace(network, variants=(wrong,)))
    replace(with_golden, frontal=gate).write_manifest()
    (with_golden.folder / network.variants[1].file).unlink()
    diagnosis = doctor.diagnose([with_golden.folder])
    assert [check.status for check in diagnosis.checks] == ["differs"]
    assert not diagnosis.healthy


def test_an_altered_file_is_found_and_the_others_are_still_checked(with_golden):
    path = with_golden.folder / with_golden.frontal.network.variants[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    checks = doctor.diagnose([with_golden.folder]).checks
    assert checks[0].status == "failed"
    assert path.name in checks[0].detail
    assert all(check.status == "ok" for check in checks[1:])


def test_a_bundle_without_golden_vectors_is_not_called_checked(with_golden):
    network = with_golden.frontal.network
    bare = tuple(replace(variant, golden=()) for variant in network.variants)
    gate = replace(with_golden.frontal, network=replace(network, variants=bare))
    replace(with_golden, frontal=gate).write_manifest()
    diagnosis = doctor.diagnose([with_golden.folder])
    assert {check.status for check in diagnosis.checks} == {"not-checked"}


def test_a_replaced_provider_is_a_warning(with_golden):
    onnxruntime = pytest.importorskip("onnxruntime")
    wanted = "TensorrtExecutionProvider"
    if wanted in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has TensorRT")
    diagnosis = doctor.diagnose([with_golden.folder], provider=wanted)
    assert sum(wanted in warning for warning in diagnosis.warnings) == 1
    assert {check.provider for check in diagnosis.checks if check.engine == "onnx"} == {
        "CPUExecutionProvider"
    }
    same = doctor.diagnose([with_golden.folder], provider="CPUExecutionProvider")
    assert not any("asked for" in warning for warning in same.warnings)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (("sse4_1", "avx2"), True),
        (("sse4_1", "avx2", "avx512_vnni"), False),
        (("asimd", "asimddp"), False),
        ((), False),
    ],
)
def test_an_x86_processor_without_vnni_is_told_of(monkeypatch, with_golden, features, told):
    pytest.importorskip("onnxruntime")
    here = replace(describe(), cpu_features=features)
    monkeypatch.setattr(doctor, "describe", lambda: here)
    warnings = doctor.diagnose([with_golden.folder]).warnings
    assert any("no VNNI" in warning for warning in warnings) == told
