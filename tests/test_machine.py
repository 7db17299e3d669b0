import stat

from xrayedge import machine


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


RASPBERRY_PI = {
    "proc/cpuinfo": (
        "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    ),
    "proc/meminfo": "MemTotal:        8256000 kB\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/temp": "51300\n",
    "sys/class/thermal/thermal_zone1/temp": "62850\n",
}


def test_a_raspberry_pi_is_described(tmp_path):
    write(tmp_path, RASPBERRY_PI)
    found = machine.describe(tmp_path)
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.cpu == "Cortex-A76"
    assert found.cpu_features == ("asimd", "asimdhp", "asimddp")
    assert found.memory_mb == 8454
    now = machine.readings(tmp_path)
    assert (now.governor, now.clock_mhz, now.temperature_c) == ("ondemand", 2400.0, 62.85)


def test_what_is_not_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found, now = machine.describe(tmp_path), machine.readings(tmp_path)
    assert (found.board, found.cpu, found.memory_mb, found.cpu_features) == (None, None, None, ())
    assert now.load >= 0.0
    assert {value for name, value in vars(now).items() if name != "load"} == {None}
    assert machine.energy_counters(tmp_path) == {}
    assert machine.energy_j({}, {}) is None


def test_the_boards_own_tools_are_asked_for_one_line(tmp_path, monkeypatch):
    for name, line in {"vcgencmd": "throttled=0x50005", "tegrastats": "RAM 1/2MB"}.items():
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\necho '{line}'\nexec /bin/sleep 60\n")  # tegrastats never ends
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    now = machine.readings(tmp_path)
    assert (now.throttling, now.tegrastats) == ("throttled=0x50005", "RAM 1/2MB")


def test_a_jetsons_rails_in_watts(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    write(
        tmp_path,
        {
            f"{folder}/in1_label": "VDD_IN\n",
            f"{folder}/in1_input": "5000\n",
            f"{folder}/curr1_input": "1200\n",
            f"{folder}/in2_label": "a rail that is not measured\n",
        },
    )
    assert machine.readings(tmp_path).power_w == {"VDD_IN": 6.0}


def test_energy_over_a_counter_that_wraps(tmp_path):
    package = "sys/class/powercap/intel-rapl:0"
    files = {f"{package}/max_energy_range_uj": "10000000", f"{package}/energy_uj": "9000000"}
    write(tmp_path, files)
    before = machine.energy_counters(tmp_path)
    write(tmp_path, {f"{package}/energy_uj": "1500000"})
    assert machine.energy_j(before, machine.energy_counters(tmp_path)) == 2.5


def test_memory_of_this_process():
    now, most = machine.memory_mb("VmRSS"), machine.memory_mb("VmHWM")
    assert 1 < now <= most < 100_000
    held = bytearray(64_000_000)
    assert machine.memory_mb("VmRSS") > now + 60
    del held
    assert machine.memory_mb("VmHWM") > now + 60
