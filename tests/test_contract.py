"""docs/embed.md, "The file's contract", in NumPy from that page alone: no OpenCV, no xrayedge.

The bundle's golden vectors and OpenCV's own answers say whether the page is right.
"""

import dataclasses
import hashlib

import numpy as np
import pytest

from xrayedge import Screener, golden, read
from xrayedge.bundle import SHIPPED, ModelBundle
from xrayedge.preprocessing import Preprocessing, fill_range


def taps(source, target):
    """For each pixel of the target its source pixels and their weights, filled up with zeros."""
    scale, rows = source / target, []
    for place in range(target):
        start, end = place * scale, place * scale + scale
        cell = min(scale, source - start)
        last = min(int(np.floor(end)), source - 1)
        first = min(int(np.ceil(start)), last)
        row = [(first - 1, (first - start) / cell)] if first - start > 1e-3 else []
        row += [(inside, 1 / cell) for inside in range(first, last)]
        row += [(last, min(end - last, 1.0, cell) / cell)] if end - last > 1e-3 else []
        rows.append(row)
    most = max(map(len, rows))
    full = np.array([row + [(0, 0.0)] * (most - len(row)) for row in rows])
    return full[:, :, 0].T.astype(int), full[:, :, 1].T.astype(np.float32)


def shrink(pixels, width, height):
    rows, columns = pixels.shape
    if rows % height == 0 and columns % width == 0:
        down, across = rows // height, columns // width
        sums = pixels.reshape(height, down, width, across).sum((1, 3), dtype=np.int64)
        if (down, across) == (2, 2):
            return ((sums + 2) >> 2).astype(np.uint8)
        return np.rint(sums.astype(np.float32) * np.float32(1 / (down * across))).astype(np.uint8)
    across = np.float32(0)
    for index, weight in zip(*taps(columns, width), strict=True):
        across = across + pixels[:, index] * weight
    result = np.float32(0)
    for index, weight in zip(*taps(rows, height), strict=True):
        result = result + across[index] * weight[:, np.newaxis]
    return np.rint(result).astype(np.uint8)


def resize(pixels, width, height):
    while pixels.shape[1] >= 8 * width and pixels.shape[0] >= 8 * height:
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = shrink(pixels[: 2 * rows, : 2 * columns], columns, rows)
    return shrink(pixels, width, height)


def stretched(pixels):
    """What the page calls the range."""
    looked_at = pixels[:: max(1, len(pixels) // 128)]
    outside = looked_at.size // 200
    low = max(v for v in range(256) if (looked_at < v).sum() <= outside)
    high = min(v for v in range(256) if (looked_at > v).sum() <= outside)
    span = high - low
    if not 1 <= span < 96:
        return pixels
    above = np.clip(pixels.astype(int) - low, 0, span)
    return ((510 * above + span) // (2 * span)).astype(np.uint8)


def equalise(pixels, clip, tiles):
    side = pixels.shape[0] // tiles
    limit, tables = max(int(clip * side * side / 256), 1), np.zeros((tiles, tiles, 256), np.float32)
    for row, column in np.ndindex(tiles, tiles):
        tile = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        counts = np.bincount(tile.ravel(), minlength=256)
        over = int(np.maximum(counts - limit, 0).sum())
        counts = np.minimum(counts, limit) + over // 256
        if left := over % 256:
            counts[:: max(256 // left, 1)][:left] += 1
        scaled = np.cumsum(counts).astype(np.float32) * np.float32(255 / np.float32(side * side))
        tables[row, column] = np.rint(scaled)
    place = np.arange(tiles * side, dtype=np.float32) * np.float32(1 / side) - np.float32(0.5)
    before = np.floor(place).astype(int)
    share = (place - before).astype(np.float32)
    rest = np.float32(1) - share
    low, high = np.maximum(before, 0), np.minimum(before + 1, tiles - 1)
    top, bottom = (
        tables[row[:, None], low[None], pixels] * rest
        + tables[row[:, None], high[None], pixels] * share
        for row in (low, high)
    )
    return np.rint(top * rest[:, None] + bottom * share[:, None]).astype(np.uint8)


def prepare(pixels, size, fit, equalisation, clahe_clip, clahe_tiles):
    height, width = pixels.shape
    if fit == "pad":
        scale = size / max(height, width)
        inner = resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
        top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
        square = np.zeros((size, size), np.uint8)
        square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return square
    square = resize(pixels, size, size)
    return equalise(square, clahe_clip, clahe_tiles) if equalisation == "clahe" else square


def scores(activation_map, classes, temperature):
    """Of one map ``float32 [h, w, channels]``."""
    logits = activation_map.astype(np.float64).mean((0, 1))[:classes] / temperature
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def opacity(activation_map, threshold, temperature, bias):
    """The mean opacity score of one map."""
    logits = activation_map[:, :, -1].astype(np.float64)
    return float((1 / (1 + np.exp(-(logits + bias) / temperature))).mean())


def window(activation_map, margin, width, height):
    """The part of the image that the classifier sees: left, top, right, bottom."""
    left, top, right, bottom = 1 / (1 + np.exp(-activation_map[0, 0].astype(np.float64)))
    if right - left < 0.3 or bottom - top < 0.3:
        return 0, 0, width, height
    edges = np.array([left - margin, top - margin, right + margin, bottom + margin])
    return tuple(np.floor(np.clip(edges, 0, 1) * ((width, height) * 2) + 0.5).astype(int))


# What follows judges it.

BUNDLE = ModelBundle.load(SHIPPED / "vgg16-edge")
NETWORKS = dict(zip(("classifier", "frontal", "lungs"), BUNDLE.networks(), strict=True))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_page_gives_the_golden_inputs_and_scores(network):
    onnxruntime = pytest.importorskip("onnxruntime")
    variant = network.variant("onnx", "int8")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(BUNDLE.read(variant), options)
    for vector in variant.golden:
        inputs = prepare(golden.phantom(vector.phantom), **network.preprocessing.to_dict())
        assert hashlib.sha256(inputs.tobytes()).hexdigest() == vector.input_sha256
        (maps,) = session.run(None, {session.get_inputs()[0].name: inputs[None, :, :, None]})
        found = scores(maps[0], len(network.classes), network.temperature)
        assert np.abs(found - vector.probabilities).max() <= vector.tolerance
        assert (vector.opacity is None) == (network.opacity is None)
        if network.opacity is not None:
            found = opacity(maps[0], **dataclasses.asdict(network.opacity))
            assert abs(found - vector.opacity) <= vector.tolerance


def test_the_page_frames_the_lungs_as_a_screener_does(chest):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    content = BUNDLE.read(BUNDLE.lungs.network.variant("onnx", "int8"))
    session = onnxruntime.InferenceSession(content, options)
    pixels = read(chest).pixels
    inputs = prepare(pixels, **BUNDLE.lungs.network.preprocessing.to_dict())
    (maps,) = session.run(None, {session.get_inputs()[0].name: inputs[None, :, :, None]})
    with Screener(engine="onnx") as screener:
        expected = screener.screen(pixels).lungs
    assert window(maps[0], BUNDLE.lungs.margin, *pixels.shape[::-1]) == expected


@pytest.mark.parametrize("shape", [(352, 320), (448, 224), (161, 977), (1501, 1203), (2000, 2500)])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_page_and_opencv_agree_to_the_bit(network, shape):
    rng = np.random.default_rng(shape[0])
    smooth = np.add.outer(np.arange(shape[0]) // 9, np.arange(shape[1]) // 11)
    pixels = (smooth + rng.integers(0, 60, shape)).astype(np.uint8)
    settings = network.preprocessing.to_dict()
    expected = Preprocessing(**settings).apply(pixels)[:, :, 0]
    np.testing.assert_array_equal(prepare(pixels, **settings), expected)


@pytest.mark.parametrize("spread", [0, 1, 9, 17, 18, 19, 40])
@pytest.mark.parametrize("shape", [(200, 150), (255, 300), (256, 301), (1600, 120)])
def test_the_page_and_a_screener_stretch_alike(spread, shape):
    pixels = np.random.default_rng(spread).normal(60, spread, shape)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    pixels[:5, :20] = 255
    np.testing.assert_array_equal(stretched(pixels), fill_range(pixels))
