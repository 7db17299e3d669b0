"""Real peers, and the station beside them, in a network namespace that has loopback alone.

Orthanc listens on every address whatever its settings say; here there is only one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = 240.0  # until something that should happen counts as not happening: machines are busy


def system_tool(name):
    """The machine's own program: pynetdicom puts a `storescu` of its own beside the interpreter."""
    beside = str(Path(sys.executable).parent)
    folders = [one for one in os.environ["PATH"].split(os.pathsep) if one != beside]
    return shutil.which(name, path=os.pathsep.join(folders))


def wait_for(done, what, seconds=SECONDS):
    """Until `done()` gives something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Namespace:
    """A network namespace; every process started in it ends with it."""

    def __init__(self, folder: Path) -> None:
        for tool in ("unshare", "nsenter", "ip", "storescu", "storescp", "echoscu", "curl"):
            if system_tool(tool) is None:
                pytest.skip(f"{tool} is not here: apt-get install dcmtk iproute2 curl util-linux")
        self.folder = folder
        self._processes: list[subprocess.Popen] = []
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--map-root-user", "sh", "-c", "ip link set lo up; echo up; cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "up\n":
            why = self._holder.communicate()[1].strip()
            pytest.skip(f"no network namespace can be made here: {why}")

    def command(self, *arguments):
        enter = ["nsenter", "-t", str(self._holder.pid), "-U", "-n", "--preserve-credentials"]
        program, *rest = map(str, arguments)
        return [*enter, system_tool(program) or program, *rest]

    def run(self, *arguments, timeout=SECONDS):
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.folder,
        )

    def start(self, *arguments, **options):
        process = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=options.pop("stdout", subprocess.DEVNULL),
            stderr=options.pop("stderr", subprocess.DEVNULL),
            cwd=self.folder,
            **options,
        )
        self._processes.append(process)
        return process

    def stop(self, process, how=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def close(self):
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._holder.stdin.close()
        self._holder.wait(timeout=SECONDS)
        self._holder.stdout.close()
        self._holder.stderr.close()

    def listens(self, port):
        """Whether something listens on a port in here."""
        table = Path(f"/proc/{self._holder.pid}/net/tcp").read_text()
        table += Path(f"/proc/{self._holder.pid}/net/tcp6").read_text()
        return any(
            line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
            for line in table.splitlines()
            if ":" in line.split()[1]
        )

    def store(self, *files, port, called="XRAYEDGE", calling="UNIT1", options=()):
        """`storescu` of some files."""
        return self.run(
            *("storescu", "-v", *options, "-aet", calling, "-aec", called),
            *("127.0.0.1", port, *files),
        )


class Orthanc:
    """A PACS that keeps its state in a folder."""

    def __init__(self, namespace, folder, *, dicom=4242, http=8042, **settings):
        if shutil.which("Orthanc") is None:
            pytest.skip("Orthanc is not here: apt-get install orthanc orthanc-dicomweb")
        self.namespace, self.dicom, self.http = namespace, dicom, http
        folder.mkdir(exist_ok=True)
        plugins = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
        self.has_dicomweb = plugins.exists()
        chosen = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": "ORTHANC",
            "DicomPort": dicom,
            "HttpPort": http,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": False,
            "DicomModalities": {"station": ["XRAYEDGE", "127.0.0.1", 11112]},
            "Plugins": [str(plugins)] if self.has_dicomweb else [],
            **settings,
        }
        self._config = folder / "orthanc.json"
        self._config.write_text(json.dumps(chosen))
        self.start()

    def start(self):
        self.process = self.namespace.start("Orthanc", self._config)
        wait_for(lambda: self.namespace.listens(self.dicom), "Orthanc listens")
        wait_for(lambda: self.namespace.listens(self.http), "Orthanc listens")

    def stop(self):
        self.namespace.stop(self.process)

    def get(self, path):
        found = self.namespace.run("curl", "-s", f"http://127.0.0.1:{self.http}{path}")
        return json.loads(found.stdout or "null")

    def instances(self):
        """Modality, study, SOP instance and Orthanc's id of each instance."""
        found = []
        for one in self.get("/instances?expand") or []:
            tags = self.get(f"/instances/{one['ID']}/simplified-tags")
            found.append(
                (tags["Modality"], tags["StudyInstanceUID"], tags["SOPInstanceUID"], one["ID"])
            )
        return sorted(found)

    def file(self, number, path):
        self.namespace.run(
            "curl", "-s", "-o", path, f"http://127.0.0.1:{self.http}/instances/{number}/file"
        )
        return path


class Station:
    """`xrayedge station` in the namespace."""

    def __init__(self, namespace, folder, config, *, port=11112):
        self.namespace, self.port = namespace, port
        folder.mkdir(exist_ok=True)
        self.state, self.config = folder / "state", folder / "station.toml"
        self.config.write_text(config)
        self.log = folder / "log"
        self.start()

    def command(self, *verbs):
        options = ("--config", self.config, "--state", self.state)
        return (sys.executable, "-m", "xrayedge", "station", *options, *verbs)

    def start(self, ready=True):
        before = self.log.read_text().count("ready") if self.log.exists() else 0
        with self.log.open("a") as log:
            self.process = self.namespace.start(*self.command(), stdout=log, stderr=log)
        if ready:
            wait_for(
                lambda: self.process.poll() is not None or self.said().count("ready") > before,
                "the station is ready",
            )
            assert self.process.poll() is None, self.said()

    def said(self):
        return self.log.read_text()

    def kill(self):
        self.namespace.stop(self.process, signal.SIGKILL)

    def stop(self):
        return self.namespace.stop(self.process)

    def run(self, *verbs):
        return self.namespace.run(*self.command(*verbs))

    def resident_mb(self):
        """Its resident memory in 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [one for one in status.splitlines() if one.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024 / 1e6

    def store(self):
        """The database, to look into."""
        from xrayedge.station.store import Store

        return Store(self.state / "station.db")

    def jobs(self):
        store = self.store()
        try:
            return store.jobs.search(limit=10_000)
        finally:
            store.close()

    def sends(self):
        store = self.store()
        try:
            return store.sends.search(limit=10_000)
        finally:
            store.close()

    def wait_until_done(self, jobs, sends=0):
        """Until so many jobs are finished and so many sends are delivered."""

        def done():
            assert self.process.poll() is None, self.said()
            finished = [job for job in self.jobs() if job.state in ("done", "refused")]
            sent = [one for one in self.sends() if one.state in ("sent", "committed")]
            return len(finished) >= jobs and len(sent) >= sends

        wait_for(done, f"{jobs} jobs and {sends} sends are done")


os.environ.setdefault("OMP_NUM_THREADS", "1")
