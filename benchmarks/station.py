"""A station's numbers: memory over a busy day, speed of receiving beside dcmtk, associations.

    python benchmarks/station.py --images 500

Needs dcmtk, `unshare` and `ip`: it runs in its own network namespace, which has only the loopback
device. A station with the edge model receives this many images by C-STORE, screens them and sends
report and overlay to dcmtk's storescp; its resident memory is read along the way. Then the same
files go alternately to the station's listener alone and to storescp. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from xrayedge.station.store import Store

STATION, PACS = 11112, 4242
CONFIG = f"""
[listen]
port = {STATION}
[console]
enabled = false
[screen]
model = "vgg16-edge"
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = {PACS}
ae = "PACS"
"""
#: A listener without a worker, so that receiving is measured and not screening.
LISTENER = f"""
import signal, sys, tempfile
from pathlib import Path
from xrayedge.station.config import ListenConfig
from xrayedge.station.inputs.dicom import DicomListener
from xrayedge.station.state import StateFolder
with StateFolder(Path(sys.argv[1])) as state:
    state.use_as_temporary_folder()
    listener = DicomListener(ListenConfig(port={STATION}), None, (), state, "balanced")
    listener.start()
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM])
    listener.stop()
"""
_SECONDS = 600.0
_PDU = "131072"
#: A file system in memory, where the programs are compared without the disk.
MEMORY = Path("/dev/shm")
#: Files, and rounds, that the speed is measured on.
FILES, ROUNDS = 10, 3


def system_tool(name: str) -> str:
    """Dcmtk's own program: pynetdicom puts a `storescu` of its own beside the interpreter."""
    beside = str(Path(sys.executable).parent)
    folders = [one for one in os.environ["PATH"].split(os.pathsep) if one != beside]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise SystemExit(f"{name} is not here: apt-get install dcmtk")
    return found


def resident_mb(process: subprocess.Popen[str]) -> float:
    """Resident memory of a process in 10^6 bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("the process has ended")


def proportional_mb(process: subprocess.Popen[str]) -> float:
    """The same, with what other processes share counted in part."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("the process has ended")


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """What a process has used so far, of its own and of the system's time."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listens(port: int) -> bool:
    """Whether something listens on a port in this network namespace."""
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_SECONDS:g} s: {what}")
        time.sleep(0.2)


def has_done(store: Store, number: int) -> bool:
    """Whether this many jobs are done."""
    return store.jobs.counts().get("done", 0) >= number


@contextmanager
def process(*command: object, ready: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended afterwards; `ready` is what it says when it is."""
    running = subprocess.Popen(
        [str(one) for one in command], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        while ready is not None and ready not in (line := running.stdout.readline()):
            if not line:
                raise SystemExit(f"{command[0]} has ended")
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)


def images() -> Iterator[pydicom.Dataset]:
    """RG1 at half its size, each time as an instance of a study of its own."""
    dataset = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    half = dataset.pixel_array[::2, ::2]
    dataset.Rows, dataset.Columns = half.shape
    dataset.PixelData = half.tobytes()
    while True:
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyInstanceUID = generate_uid()
        yield dataset


def unit() -> AE:
    ae = AE("UNIT1")
    ae.add_requested_context(ComputedRadiographyImageStorage, [ExplicitVRLittleEndian])
    ae.add_requested_context("1.2.840.10008.1.1")
    return ae


def a_busy_day(folder: Path, number: int) -> Iterator[tuple[str, str]]:
    """Memory while this many images are received, screened and delivered."""
    config = folder / "station.toml"
    config.write_text(CONFIG)
    state = folder / "state"
    command = ("-m", "xrayedge", "station", "--config", config, "--state", state)
    kept = folder / "kept"
    kept.mkdir()
    with (
        process(system_tool("storescp"), "-aet", "PACS", "-od", kept, PACS),
        process(sys.executable, *command, ready="ready") as station,
    ):
        store = Store(state / "station.db")
        source = images()
        memory = []
        began = time.monotonic()
        for sent in range(0, number, 10):
            association = unit().associate("127.0.0.1", STATION, ae_title="XRAYEDGE")
            for _ in range(min(10, number - sent)):
                if association.send_c_store(next(source)).Status != 0:
                    raise SystemExit("an image was not taken")
            association.release()
            goal = min(sent + 10, number)
            wait_for(partial(has_done, store, goal), "screened")
            memory.append(resident_mb(station))
        wait_for(lambda: store.sends.counts().get(("pacs", "sent"), 0) >= 2 * number, "delivered")
        seconds = time.monotonic() - began
        yield (
            f"images received, screened, delivered (report and overlay) in {seconds:.0f} s",
            (f"{number}"),
        )
        tenth = max(1, len(memory) // 10)
        yield (
            "resident memory: first tenth, last tenth, largest",
            (
                f"{statistics.mean(memory[:tenth]):.0f}, {statistics.mean(memory[-tenth:]):.0f}, "
                f"{max(memory):.0f} MB"
            ),
        )
        yield "proportional memory (PSS) at the end", f"{proportional_mb(station):.0f} MB"
        before = resident_mb(station)
        began = time.monotonic()
        for _ in range(1000):
            association = unit().associate("127.0.0.1", STATION, ae_title="XRAYEDGE")
            if not association.is_established or association.send_c_echo().Status != 0:
                raise SystemExit("an association was refused")
            association.release()
        yield (
            "1,000 associations with C-ECHO, one after another",
            (f"{time.monotonic() - began:.0f} s, memory {resident_mb(station) - before:+.0f} MB"),
        )
        store.close()


def receiving(folder: Path) -> Iterator[tuple[str, str]]:
    """Megabytes per second into the listener and into storescp, alternately, in one folder."""
    files = []
    dataset = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    dataset.PixelData = dataset.PixelData * 4
    dataset.Rows *= 4
    for number in range(FILES):
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1])
    size = sum(path.stat().st_size for path in files) / 1e6
    speeds: dict[str, list[float]] = {"station": [], "storescp": [], "synced": []}
    work: dict[str, list[float]] = {name: [] for name in speeds}
    for round_number in range(ROUNDS):
        for name in speeds if round_number % 2 else reversed(list(speeds)):
            kept = Path(tempfile.mkdtemp(dir=folder))
            if name == "station":
                server = process(sys.executable, "-c", LISTENER, kept, ready="ready")
                port = STATION
            else:
                options = ("-pdu", _PDU, "-aet", "XRAYEDGE", "-od", str(kept))
                server = process(system_tool("storescp"), *options, PACS)
                port = PACS
            with server as server_process:
                wait_for(partial(listens, port), "the receiver listens")
                options = ("-pdu", _PDU, "-aec", "XRAYEDGE", "127.0.0.1", str(port))
                command = [system_tool("storescu"), *options, *map(str, files)]
                began = time.monotonic()
                subprocess.run(command, check=True, capture_output=True)
                if name == "synced":
                    subprocess.run(["sync", *map(str, kept.iterdir())], check=True)
                speeds[name].append(size / (time.monotonic() - began))
                work[name].append(processor_seconds(server_process) / size * 1000.0)
            shutil.rmtree(kept)
    station, storescp, synced = (statistics.median(one) for one in speeds.values())
    where = "in memory" if folder.is_relative_to(MEMORY) else "on the disk"
    yield (
        f"{where}: C-STORE of {FILES} images of {size / FILES:.0f} MB into the station, which "
        "answers when each is synced",
        f"{station:.0f} MB/s",
    )
    yield f"{where}: into dcmtk's storescp, which does not sync", f"{storescp:.0f} MB/s"
    yield f"{where}: into storescp, and synced at the end", f"{synced:.0f} MB/s"
    station_work, storescp_work = (statistics.median(work[one]) for one in ("station", "storescp"))
    yield (
        f"{where}: processor time of station and storescp for a gigabyte",
        f"{station_work:.2f}, {storescp_work:.2f} s",
    )
    yield (
        f"{where}: ratio of the station to storescp, and to storescp synced, medians of {ROUNDS} "
        "rounds in turn",
        f"{station / storescp:.2f}, {station / synced:.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--part", choices=("speed", "day", "all"), default="all")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        inside = [sys.executable, __file__, "--inside", *sys.argv[1:]]
        up = 'ip link set lo up && exec "$@"'
        command = ["unshare", "--net", "--map-root-user", "sh", "-c", up, "sh", *inside]
        os.execvp(command[0], command)
    print("| | |\n| --- | --- |")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir=MEMORY) as memory,
    ):
        parts: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
            "speed": lambda: (row for at in (memory, folder) for row in receiving(Path(at))),
            "day": lambda: a_busy_day(Path(folder), chosen.images),
        }
        for part, measure in parts.items():
            if chosen.part in (part, "all"):
                for name, metric in measure():
                    print(f"| {name} | {metric} |", flush=True)


if __name__ == "__main__":
    main()
