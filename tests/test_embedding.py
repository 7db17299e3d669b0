"""A program of an X-ray unit with a `Screener` inside."""

import gc
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from xrayedge import EngineError, Screener, read
from xrayedge.engines import available


@pytest.fixture(scope="module")
def pixels(chest):
    return read(chest).pixels


@pytest.mark.parametrize("engine", available())
def test_leaving_a_screener_lets_its_engines_go(engine, pixels):
    with Screener(engine=engine) as screener:
        screener.warm_up()
        assert screener.screen(pixels).status == "screened"
        engines = [weakref.ref(one) for one in _engines(screener)]
    gc.collect()
    assert [one() for one in engines] == [None, None, None]
    with pytest.raises(EngineError, match="closed"):
        screener.screen(pixels)
    screener.close()  # once more does nothing


def _engines(screener):
    return [network.engine for network in screener._networks.all()]


def test_a_stream_gives_each_result_when_it_is_there(pixels, leg):
    first = threading.Event()

    def unit():
        yield pixels
        assert first.wait(60)  # the next image is taken after the first result is seen
        yield leg
        yield b"not an image"

    with Screener() as screener:
        results = screener.screen_stream(unit())
        assert next(results).status == "screened"
        first.set()
        assert [one.reason for one in results] == ["not-frontal", "unreadable"]
        with pytest.raises(ValueError, match="ahead"):
            screener.screen_stream([], ahead=0)


def test_an_image_that_takes_too_long_is_given_up_and_the_next_is_screened(pixels, monkeypatch):
    started = threading.Event()
    go_on = threading.Event()
    ended = threading.Event()

    def slow(source, limits, **options):
        started.set()
        go_on.wait(60)
        ended.set()
        return read(source, limits, **options)

    with Screener(timeout=60.0) as screener, monkeypatch.context() as patch:
        expected = screener.screen(pixels)
        screener._timeout = 1.0
        patch.setattr("xrayedge.screening.read", slow)
        result = screener.screen(pixels)
        assert (result.status, result.reason) == ("failed", "timeout")
        assert "<array>: not screened within 1 seconds" in result.detail
        assert started.is_set()
        assert not ended.is_set()  # it did not wait for the work
        assert result.timings_ms["classify"] is None
        go_on.set()
        assert ended.wait(60)
        patch.undo()
        screener._timeout = 60.0
        assert screener.screen(pixels).probabilities == expected.probabilities


def test_work_that_was_given_up_begins_no_other_stage(pixels, monkeypatch):
    screener = Screener(timeout=0.05)
    begun = []

    def slow(source, limits, **options):
        time.sleep(0.1)
        return read(source, limits, **options)

    monkeypatch.setattr("xrayedge.screening.read", slow)
    monkeypatch.setattr("xrayedge.frontal.FrontalCheck.score", lambda *_: begun.append("frontal"))
    assert screener.screen(pixels).reason == "timeout"
    for thread in threading.enumerate():
        if thread.name == "xrayedge-screen":
            thread.join(60)
    assert begun == []


def test_work_that_was_given_up_does_not_pile_up(pixels, monkeypatch):
    begun, go_on = [], threading.Event()

    def slow(source, limits, **options):
        begun.append(source)
        go_on.wait(60)
        return read(source, limits, **options)

    with Screener(timeout=0.5) as screener, monkeypatch.context() as patch:
        patch.setattr("xrayedge.screening.read", slow)
        assert [screener.screen(pixels).reason for _ in range(3)] == ["timeout"] * 3
        assert len(begun) == 1  # the others waited for the first, in their own time
        go_on.set()
        patch.undo()
        screener._timeout = 60.0
        assert screener.screen(pixels).status == "screened"


def test_a_failed_image_is_let_go_at_once():
    """Not only when Python next looks for cycles: images are large, and a unit's memory small."""

    source = np.full((200, 200), np.nan, np.float32)
    left = weakref.ref(source)
    with Screener(timeout=60.0) as screener:
        gc.disable()
        try:
            assert screener.screen(source).reason == "unreadable"
            del source
            assert left() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_more_than_nothing(timeout):
    with pytest.raises(ValueError, match="timeout"):
        Screener(timeout=timeout)


def test_a_camera_s_buffer_is_neither_copied_nor_written_to(pixels):
    """A frame as a driver hands it over: memory that is mapped in for reading only."""
    frame = np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape)
    assert not frame.flags.writeable
    for buffer in (frame, frame[:, :, np.newaxis]):
        assert np.shares_memory(read(buffer).pixels, frame)
    with Screener() as screener:
        found = screener.screen(frame, heatmap=True)
        padded = np.zeros((pixels.shape[0], pixels.shape[1] + 32), np.uint8)
        padded[:, : pixels.shape[1]] = pixels  # rows padded to a driver's stride
        expected = screener.screen(pixels)
        assert found.probabilities == expected.probabilities
        assert screener.screen(padded[:, : pixels.shape[1]]).probabilities == expected.probabilities


def test_a_read_only_file_system_is_enough(chest):
    """Every mount is made read-only, in a mount namespace that the command has for itself."""
    freeze = (
        "cut -d' ' -f5 /proc/self/mountinfo | while read -r at; do "
        'mount -o remount,bind,ro "$at" 2>/dev/null; done; '
        '! touch "$PWD/probe" 2>/dev/null && ! touch /tmp/probe 2>/dev/null || exit 99; '
        'exec "$@"'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", freeze, "sh"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if allowed:
        pytest.skip("this system allows no mount namespace of one's own")
    screen = [sys.executable, "-m", "xrayedge", "screen", str(chest), "--json"]
    found = subprocess.run([*command, *screen], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert '"status": "screened"' in found.stdout
