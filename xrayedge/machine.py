"""The machine: facts that stay the same, and readings that change while it works.

Everything comes from Linux and the boards' own tools. What can't be read is `None`, never a guess.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Distributions whose version changes a timing or a score.
PACKAGES = (
    "xrayedge",
    "numpy",
    "opencv-python-headless",
    "ai-edge-litert",
    "tflite-runtime",
    "onnxruntime",
)
#: What the inference engines look for, as /proc/cpuinfo names it on x86 and on ARM.
_FEATURES = (
    "sse4_1", "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
#: MIDR part numbers of the boards' processors; Linux, arch/arm64/include/asm/cputype.h.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
}
_ROOT = Path("/")


@dataclass(frozen=True)
class Machine:
    """Facts that stay.

    Parameters
    ----------
    board
        As the device tree names it, such as ``Raspberry Pi 5 Model B Rev 1.0``.
    cpu, architecture
        Of the processor.
    cpu_features
        Those of its instructions that inference engines use.
    cores, usable_cores
        Of the machine, and those that this process may run on.
    memory_mb
        Of the machine, in 10^6 bytes.
    system, python
        Kernel and interpreter.
    versions
        Of the packages in `PACKAGES`; `None` for one that is not installed.
    """

    board: str | None
    cpu: str | None
    architecture: str
    cpu_features: tuple[str, ...]
    cores: int | None
    usable_cores: int
    memory_mb: int | None
    system: str
    python: str
    versions: dict[str, str | None]


@dataclass(frozen=True)
class Readings:
    """What changes while the machine works.

    Parameters
    ----------
    governor
        The rule that sets the clock, ``performance``, ``ondemand``, ...
    clock_mhz
        Of the fastest core now.
    temperature_c
        Of the hottest thermal zone, in degrees Celsius.
    throttling
        The board's own flag: ``vcgencmd get_throttled``, or the x86 count of throttled moments.
    power_w
        Of each rail that an INA3221 watches, in watts.
    tegrastats
        One line of a Jetson's own tool.
    load
        Runnable processes, averaged over the last minute; above 0 before a benchmark, something
        else is running.
    """

    governor: str | None
    clock_mhz: float | None
    temperature_c: float | None
    throttling: str | None
    power_w: dict[str, float] | None
    tegrastats: str | None
    load: float


def describe(root: Path = _ROOT) -> Machine:
    """The facts that stay; ``root`` is where ``proc`` and ``sys`` are."""
    cpuinfo = _cpuinfo(root)
    return Machine(
        board=_text(root / "proc/device-tree/model"),
        cpu=cpuinfo.get("model name") or _arm_name(cpuinfo),
        architecture=platform.machine(),
        cpu_features=cpu_features(root),
        cores=os.cpu_count(),
        usable_cores=len(os.sched_getaffinity(0)),
        memory_mb=_memory_mb(root),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
    )


def cpu_features(root: Path = _ROOT) -> tuple[str, ...]:
    """What the processor has of the instructions that inference engines look for."""
    cpuinfo = _cpuinfo(root)
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return tuple(name for name in _FEATURES if name in flags)


def has_vnni(features: Sequence[str]) -> bool:
    """Whether an x86 processor sums products of bytes exactly at full speed."""
    return not {"avx_vnni", "avx512_vnni"}.isdisjoint(features)


def readings(root: Path = _ROOT) -> Readings:
    """What the machine says of itself now."""
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    throttled = _tool_line("vcgencmd", "get_throttled") or _text(
        root / "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    )
    return Readings(
        governor=_text(cpufreq / "scaling_governor"),
        clock_mhz=_clock_mhz(root),
        temperature_c=_temperature_c(root),
        throttling=throttled,
        power_w=_power_w(root) or None,
        tegrastats=_tool_line("tegrastats", "--interval", "100"),
        load=os.getloadavg()[0],
    )


def energy_counters(root: Path = _ROOT) -> dict[str, tuple[int, int]]:
    """Each processor package's energy counter and its range, in microjoules (RAPL).

    Empty where the kernel has none, or lets only its administrator read it.
    """
    counters = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]")):
        used, wraps_at = _text(folder / "energy_uj"), _text(folder / "max_energy_range_uj")
        if used and wraps_at:
            counters[folder.name] = (int(used), int(wraps_at))
    return counters


def energy_j(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """Joules between two readings of `energy_counters`; `None` where there is no counter."""
    if not before or before.keys() != after.keys():
        return None
    spent = sum((after[name][0] - used) % wraps_at for name, (used, wraps_at) in before.items())
    return spent / 1e6


def memory_mb(field: str) -> float | None:
    """A field of this process's ``/proc/self/status`` in 10^6 bytes.

    ``VmRSS`` is what it holds now; ``VmHWM`` is the most that it ever held, counted from its own
    start, which ``getrusage`` does not do: there a child begins with its parent's peak.
    """
    for line in (_text(Path("/proc/self/status")) or "").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    return None


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's fields."""
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _arm_name(cpuinfo: dict[str, str]) -> str | None:
    implementer, part = cpuinfo.get("CPU implementer"), cpuinfo.get("CPU part")
    if implementer is None or part is None:
        return None
    known = _ARM_PARTS.get(part) if implementer == "0x41" else None
    return known or f"implementer {implementer}, part {part}"


def _memory_mb(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024 // 1_000_000
    return None


def _clock_mhz(root: Path) -> float | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [int(kilohertz) / 1000 for file in files if (kilohertz := _text(file))]
    if clocks:
        return max(clocks)
    nominal = _cpuinfo(root).get("cpu MHz")
    return float(nominal) if nominal else None


def _temperature_c(root: Path) -> float | None:
    files = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    return max((int(value) / 1000 for file in files if (value := _text(file))), default=None)


def _power_w(root: Path) -> dict[str, float]:
    """Voltage (mV) times current (mA) of each labelled rail; Linux, hwmon/ina3221.rst."""
    rails = {}
    for folder in (root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*"):
        for label in folder.glob("in*_label"):
            number = label.name[2:].removesuffix("_label")
            name = _text(label)
            millivolts = _text(folder / f"in{number}_input")
            milliamperes = _text(folder / f"curr{number}_input")
            if name and millivolts and milliamperes:
                rails[name] = int(millivolts) * int(milliamperes) / 1e6
    return rails


def _tool_line(tool: str, *arguments: str) -> str | None:
    """The first line that a board's tool prints; some never end by themselves."""
    path = shutil.which(tool)
    if path is None:
        return None
    with subprocess.Popen(
        [path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            return process.stdout.readline().strip() or None
        finally:
            process.kill()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None
