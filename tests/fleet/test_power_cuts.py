"""A device that is cut off at any moment of an installation wakes up with a working model."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from fleet.factory import NAME, version_in_use

from xrayedge.fleet import Store, fetch

# Every call that leaves a trace on the disk; a power cut falls before one of them.
STEPS = ("fsync", "rename", "replace", "symlink", "mkdir", "unlink", "rmdir", "open", "write")


def run_until_cut(work, step):
    """``work`` in a process that dies before its ``step``-th call; whether it came so far."""
    child = os.fork()
    if child == 0:
        taken = 0

        def counted(call):
            def cut(*arguments, **named):
                nonlocal taken
                taken += 1
                if taken == step:
                    os._exit(9)
                return call(*arguments, **named)

            return cut

        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def every_cut(device, work, among, undo=lambda: None, every=1):
    """Cut ``work`` off before one step after another; the model in use is always one of these.

    Each try goes on from what the cut before it left; ``undo`` puts the model in use back.
    """
    step, seen = every, set()
    while run_until_cut(work, step):
        seen.add(version_in_use())
        assert seen <= among
        assert device.verify(NAME).in_use
        undo()
        step += every
    assert step > every  # it was cut off at all
    return seen


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_cut_off_before_a_step_of_an_installation(device, first, second, every):
    device.install(first)

    def undo():
        if version_in_use() == "2.0":
            device.rollback(NAME)

    seen = every_cut(device, lambda: device.install(second), {"1.0", "2.0"}, undo, every)
    assert seen == {"1.0", "2.0"}
    device.install(second)
    assert version_in_use() == "2.0"
    assert [one.version for one in device.installed()] == ["1.0", "2.0"]
    assert device.rollback(NAME).name.startswith("10-")


def test_cut_off_before_every_step_of_a_rollback(device, first, second, manufacturer):
    third = fetch(manufacturer.release("3.0", 30))
    device.install(first)
    device.install(second)
    every_cut(device, lambda: device.rollback(NAME), {"1.0", "2.0"})
    device.install(third)
    assert version_in_use() == "3.0"
    assert device.serial(NAME) == 30


INSTALL = """
import sys
from xrayedge.fleet import Store, fetch
store = Store(check=lambda folder: None)
offered = [fetch(path) for path in sys.argv[1:]]
print("ready", flush=True)
for number in range(10_000):
    store.install(offered[0], allow_unsigned=True)
    store.rollback("chest")
"""


def kill_at_random(device, releases, times):
    """An installer that installs and goes back for ever, killed after 0 to 100 ms of it."""
    generator = random.Random(25)
    versions = set()
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", INSTALL, *releases], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        versions.add(version_in_use())
        assert device.start(NAME).is_dir()
        device.confirm(NAME)
        assert version_in_use() in ("1.0", "2.0")
    return versions


def killed(device, manufacturer, first, times):
    device.install(first)
    versions = kill_at_random(device, [manufacturer.release("2.0", 20)], times)
    assert versions <= {"1.0", "2.0"}
    device.install(fetch(manufacturer.release("3.0", 30)))
    assert version_in_use() == "3.0"


def test_killed_during_installations(device, manufacturer, first):
    killed(device, manufacturer, first, 3)


@pytest.mark.slow
def test_killed_a_hundred_times_during_installations(device, manufacturer, first):
    killed(device, manufacturer, first, 100)


def test_two_installers_wait_for_each_other(device, manufacturer, first):
    release = manufacturer.release("2.0", 20)
    device.install(first)
    program = (
        "import sys; from xrayedge.fleet import Store, fetch;"
        "Store(check=lambda folder: None).install(fetch(sys.argv[1]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, release]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert version_in_use() == "2.0"
    assert len(Store().installed()) == 2
