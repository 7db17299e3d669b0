"""`imaging.read` under Hypothesis: whatever the bytes, an image or one of our errors."""

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("imagecodecs")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import corpus

from xrayedge import ImageError, Limits, read

LIMITS = Limits(max_bytes=1_000_000, max_pixels=4_000_000)


@st.composite
def altered_files(draw):
    data = bytearray(draw(st.sampled_from(corpus())))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)) | st.integers(0, min(len(data), 1500)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(altered_files())
def test_altered_files(data):
    outcome_is_ours(data)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*"])
    | st.just(bytes(128) + b"DICM"),
    st.binary(max_size=600),
)
def test_any_bytes_behind_a_magic(magic, rest):
    outcome_is_ours(magic + rest)


def outcome_is_ours(data):
    try:
        pixels = read(data, LIMITS).pixels
    except ImageError as error:
        hypothesis.event(error.reason)
        return
    hypothesis.event("read")
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2
    assert 0 < pixels.size <= LIMITS.max_pixels
