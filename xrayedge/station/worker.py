"""`Worker`: takes a job, screens it, and writes its result and objects, all or nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import ResultsError, StorageFullError, XrayEdgeError
from ..installed import installed_folder
from ..output.dicom import DicomObject, prepare, secondary_capture, structured_report
from ..result import Screening
from ..screening import Screener
from . import memory, policy
from .config import StationConfig
from .measures import measured
from .records import Job, NewObject, Outcome
from .state import StateFolder

_LONGEST_UNIT = 64  # of a unit's name; DICOM allows 16 characters
_IDLE_SECONDS = 1.0  # between two checks for jobs that another process has queued again
_TROUBLE_SECONDS = 10.0  # before the next attempt where the disk is full

#: For what an operator should read while the disk is full: events wait for room on it.
_LOG = logging.getLogger(__name__)


class Worker(threading.Thread):
    """One thread that screens, job after job, until `stop` is called.

    An unexpected error ends the whole process: the job is then counted as crashed, and is set
    aside if that happens again.

    Parameters
    ----------
    config
        How to screen, and which destinations get what.
    state
        Where jobs come from and objects go.
    wake_senders
        Called when there is something new to send.

    Raises
    ------
    XrayEdgeError
        The model can't be loaded.
    """

    def __init__(
        self,
        config: StationConfig,
        state: StateFolder,
        *,
        wake_senders: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._config, self._state = config, state
        self._wake_senders = wake_senders
        self._point = config.screen.operating_point
        self._installed = installed_folder(config.screen.model)
        self._waiting: Path | None = None  # a model whose audit entry found the disk full
        self._screener = self._open(self._point)
        if config.destinations:
            prepare()
            memory.give_back()
        self._halt = threading.Event()
        self._work = threading.Event()
        #: The error that ended the thread, if it was not `stop`.
        self.failure: BaseException | None = None
        state.wakers.append(self._work.set)

    def run(self) -> None:
        """Screen until stopped."""
        try:
            while not self._halt.is_set():
                try:
                    job = self._state.store.jobs.take()
                except StorageFullError:
                    self._halt.wait(_TROUBLE_SECONDS)
                    continue
                if job is None:
                    self._work.wait(_IDLE_SECONDS)
                    self._work.clear()
                else:
                    self._follow_update()
                    self._do(job)
                    memory.give_back()
        except BaseException as error:
            self.failure = error
        finally:
            self._screener.close()

    def stop(self) -> None:
        """End after the current image."""
        self._halt.set()
        self._work.set()

    @property
    def screener(self) -> Screener:
        """That of the last image; for what it says about its model."""
        return self._screener

    def _do(self, job: Job) -> None:
        trouble = None
        while True:
            try:
                self._finish(job)
            except OSError as error:
                # The disk is full or gone; the image is not at fault.
                if trouble is None:
                    trouble = f"results can't be written ({error.strerror})"
                    self._state.store.events.warn(trouble, job.id)
                if self._halt.wait(_TROUBLE_SECONDS):
                    with suppress(StorageFullError):
                        self._state.store.jobs.give_back(job.id)
                    return
            else:
                self._wake_senders()
                return

    def _finish(self, job: Job) -> None:
        kept: list[NewObject] = []
        try:
            self._state.store.jobs.finish(job.id, self._outcome(job, kept))
        except OSError:
            for one in kept:
                self._state.discard_object(one.file)
            raise

    def _follow_update(self) -> None:
        """Switch to a model that was installed since the last image, and record it in the audit.

        One that can't be loaded is not tried again. One that can't be entered, because the disk is
        full, is tried again at the next image. The model that is loaded goes on in either case.
        """
        installed = self._installed
        try:
            installed = installed_folder(self._config.screen.model)
            if installed == self._installed:
                return
            screener = self._open(self._point)
        except XrayEdgeError as error:
            self._installed = installed
            self._state.store.events.warn(
                f"the new model can't be used, the old one goes on: {error}"
            )
            return
        old, new = (f"{one.bundle.name} {one.bundle.version}" for one in (self._screener, screener))
        try:
            self._state.store.audit.record("update", "model", old, new)
        except StorageFullError as error:
            screener.close()
            if self._waiting != installed:
                self._waiting = installed
                _LOG.warning("station: %s goes on, %s has to wait: %s", old, new, error)
            return
        self._screener.close()
        self._installed, self._screener = installed, screener

    def _outcome(self, job: Job, kept: list[NewObject]) -> Outcome:
        """The result of a job; objects are in ``kept`` as soon as they are written."""
        path = self._state.image(job)
        if not path.exists():
            missing = {"status": "failed", "reason": "unreadable"}
            return Outcome("refused", missing, "the image's file is missing")
        verdict = policy.check(path, self._config.screen)
        screener = self._screener_at(job.operating_point)
        if verdict.reason is None:
            screening = screener.screen(path, heatmap="sc" in self._kinds(), grey=True)
            if verdict.warning:
                screening = replace(screening, warnings=(*screening.warnings, verdict.warning))
        else:
            screening = _refused(screener, path, verdict)
        # The file's name is random; a detail begins with its whole path.
        detail = screening.detail and screening.detail.replace(f"{path}: ", "")
        trouble = self._keep_objects(job, path, screening, kept)
        fit = screener.bundle.classifier.preprocessing.fit
        result = {**screening.to_dict(), "source": job.file, "detail": detail, "fit": fit}
        return Outcome(
            "done" if screening.ok else "refused",
            result,
            "; ".join(filter(None, (detail, trouble))) or None,
            kept,
            screening.activation_map,
            None
            if job.origin == "example"
            else measured(screening, _unit(job, verdict.station_name)),
        )

    def _kinds(self) -> set[str]:
        return {kind for one in self._config.destinations for kind in one.kinds}

    def _keep_objects(
        self, job: Job, path: Path, screening: Screening, kept: list[NewObject]
    ) -> str | None:
        """Write what is to be sent, and say why nothing can be."""
        if job.origin == "example":
            return None
        wanted = self._kinds() & ({"sr", "sc"} if screening.ok else {self._config.screen.refusals})
        # Two contents under one instance UID: the second needs objects of its own.
        revision = job.sha256 if job.altered else ""
        try:
            made = [
                (kind, write(screening, path, revision=revision))
                for kind, write in (("sr", structured_report), ("sc", secondary_capture))
                if kind in wanted
            ]
        except ResultsError as error:
            return str(error).replace(f"{path}: ", "")
        for kind, one in made:
            kept.append(self._kept(kind, one))
        return None

    def _kept(self, kind: str, made: DicomObject) -> NewObject:
        return NewObject(
            kind,
            self._state.keep_object(made.content),
            made.sop_class_uid,
            made.sop_instance_uid,
            made.transfer_syntax_uid,
            {one.name: one.commitment for one in self._config.destinations if kind in one.kinds},
        )

    def _screener_at(self, point: str) -> Screener:
        """The screener at an operating point; the configured one if the model lacks it."""
        if point != self._point:
            try:
                screener = self._open(point)
            except XrayEdgeError:
                self._state.store.events.warn(f"the model has no operating point {point!r}")
                return self._screener
            self._screener.close()
            self._screener, self._point = screener, point
        return self._screener

    def _open(self, point: str) -> Screener:
        screen = self._config.screen
        # The hospital's profile replaces the configured operating point only.
        screener = Screener(
            screen.model,
            threads=screen.threads,
            operating_point=point,
            site=screen.site if point == screen.operating_point else None,
            timeout=screen.timeout,
        )
        screener.warm_up()
        return screener


def _unit(job: Job, station_name: str) -> str:
    """What the monitor calls the unit that made an image."""
    if job.origin == "console":
        return "browser"
    name = station_name or job.sender
    return "".join(filter(str.isprintable, name))[:_LONGEST_UNIT] or "unknown"


def _refused(screener: Screener, path: Path, verdict: policy.Verdict) -> Screening:
    return Screening(
        source=str(path),
        status="rejected",
        reason=verdict.reason,
        detail=verdict.detail,
        label=None,
        certain=None,
        probabilities=None,
        frontal_score=None,
        model=screener.bundle.name,
        version=screener.bundle.version,
        precision=screener.precision,
        engine=screener.engine,
        operating_point=screener.operating_point,
        timings_ms={},
    )
