"""Losses."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.training.losses import SourceAwareCrossentropy, targets


def test_within_a_source_a_class_it_never_holds_is_no_rival():
    labels = np.array([0, 1])
    rivals = np.array([[True, False, True], [False, True, True]])
    wanted = targets(np.eye(3, dtype=bool)[labels], rivals)
    logits = np.array([[1.0, 5.0, 0.0], [-9.0, 1.0, 0.0]], np.float32)
    within = np.asarray(SourceAwareCrossentropy(share=1.0).call(wanted, logits))
    assert within == pytest.approx(np.log(1 + np.exp(-1.0)), rel=1e-4)
    plain = np.asarray(SourceAwareCrossentropy(label_smoothing=0.1).call(wanted, logits))
    keras_own = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=None
    )(wanted[:, 0], logits)
    assert plain == pytest.approx(np.asarray(keras_own), rel=1e-4)
