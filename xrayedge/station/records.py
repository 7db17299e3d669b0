"""What the store takes and returns: one frozen dataclass for each kind of row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

JobState = Literal["received", "screening", "done", "refused", "set-aside"]
SendState = Literal["queued", "sent", "committed", "failed"]
#: An ``example`` is the console's; it goes to no destination and counts in no histogram.
Origin = Literal["dicom", "folder", "console", "example"]

#: A unit's first images are what its later ones are compared with.
REFERENCE_IMAGES = 200
#: How many of the most recent ones are compared.
RECENT_IMAGES = 200


@dataclass(frozen=True)
class NewJob:
    """An image that lies in ``incoming``, about to become a job.

    Parameters
    ----------
    file
        Its random name there.
    origin, sender
        How it came, and the calling AE title, ``folder`` or the console's user.
    sop_instance_uid
        Of a DICOM file; `None` for others.
    sha256, size
        Of its bytes.
    """

    file: str
    origin: Origin
    sender: str
    sop_instance_uid: str | None
    sha256: str
    size: int


@dataclass(frozen=True)
class Receipt:
    """What became of a `NewJob`.

    Parameters
    ----------
    job
        The job's id: a new one's, or the one that has the same bytes already.
    new
        Whether there is a new job; if not, its file is not wanted.
    altered
        Whether the same SOP instance came before with other bytes.
    """

    job: int
    new: bool
    altered: bool


@dataclass(frozen=True)
class Job:
    """A row of the queue and of the history.

    Parameters
    ----------
    id
        Grows with each job, and is never given twice.
    state
        See the module.
    file
        Name in ``incoming``, or in ``set-aside`` for a job of that state.
    origin, sender, sop_instance_uid, sha256, size
        As of `NewJob`.
    received_at, finished_at
        Seconds since 1970 by the clock at that time.
    altered
        As of `Receipt`.
    operating_point
        That which was set when it was received.
    crashes
        Times that the process ended while it was screened.
    result
        The JSON object of `Screening.to_dict`, with the random name as ``source``, and with
        ``detail`` and ``fit``: how the model's input lies on the image (`Preprocessing.fit`).
    detail
        Why refused, set aside or without objects, in a sentence.
    """

    id: int
    state: JobState
    file: str
    origin: Origin
    sender: str
    sop_instance_uid: str | None
    sha256: str
    size: int
    received_at: float
    altered: bool
    operating_point: str
    crashes: int
    finished_at: float | None
    result: dict[str, Any] | None
    detail: str | None


@dataclass(frozen=True)
class NewObject:
    """A DICOM object that lies in ``outbox``, and the destinations that it is for.

    Parameters
    ----------
    kind
        ``sr`` or ``sc``.
    file
        Its random name there.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        Of the object.
    destinations
        Names, and whether storage commitment is asked of each.
    """

    kind: str
    file: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    destinations: Mapping[str, bool]


@dataclass(frozen=True)
class Send:
    """One object on its way to one destination.

    Parameters
    ----------
    id, job
        Of this row, and of the job that it came of.
    destination, state, kind
        Where to, how far, and ``sr`` or ``sc``.
    file, sop_class_uid, sop_instance_uid, transfer_syntax_uid
        The object in ``outbox``.
    refusals
        Times that the peer refused it.
    detail
        What the peer said last.
    commitment
        Whether storage commitment is asked for.
    queued_at, sent_at
        Seconds since 1970.
    """

    id: int
    job: int
    destination: str
    state: SendState
    kind: str
    file: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    refusals: int
    detail: str | None
    commitment: bool
    queued_at: float
    sent_at: float | None


@dataclass(frozen=True)
class Event:
    """Something that happened, for the console: ids grow, so that a reader can resume from one.

    Kinds: ``received``, ``screening``, ``screened``, ``refused``, ``set-aside``, ``queued``,
    ``waiting``, ``sent``, ``committed``, ``failed``, ``warning``, ``deleted``, ``setting``,
    ``monitor``.
    """

    id: int
    at: float
    kind: str
    job: int | None
    detail: str


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what; `hash` is of this entry and the hash of the one before."""

    id: int
    at: str
    who: str
    what: str
    old: str
    new: str
    hash: str


@dataclass(frozen=True)
class AuditCheck:
    """How many of the audit's entries fit; the id at which the first does not, and why."""

    entries: int
    first_bad: int | None = None
    why: str | None = None


@dataclass(frozen=True)
class Backlog:
    """What has not reached a destination.

    Parameters
    ----------
    destination
        Its name.
    waiting, failed
        Objects that are queued, and those that it refused for good.
    oldest_at
        When the oldest that waits was queued, seconds since 1970.
    detail
        What the destination said last, or why it can't be reached.
    """

    destination: str
    waiting: int
    failed: int
    oldest_at: float | None
    detail: str | None


@dataclass(frozen=True)
class Forgotten:
    """Jobs that were deleted, and the files in ``incoming`` and ``outbox`` that nobody needs."""

    jobs: tuple[int, ...]
    images: tuple[str, ...]
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What the monitor counts for one image; nothing in it identifies the patient.

    Parameters
    ----------
    station
        The unit that sent the image.
    model
        Name and version of what screened it.
    bins
        Its bin of each measure; see `measures`.
    milliseconds
        How long it took to be screened.
    """

    station: str
    model: str
    bins: Mapping[str, int]
    milliseconds: float = 0.0


@dataclass(frozen=True)
class Unit:
    """The images of one unit that are compared to detect changes: their bins of each measure.

    Parameters
    ----------
    name
        Of the unit.
    model
        That screened them all.
    reference
        The first ones, at most `REFERENCE_IMAGES`.
    recent
        The last ones since, at most `RECENT_IMAGES`, oldest first.
    """

    name: str
    model: str
    reference: tuple[Mapping[str, int], ...]
    recent: tuple[Mapping[str, int], ...]


@dataclass(frozen=True)
class Outcome:
    """What the worker made of a job, written in one transaction by `Store.finish`.

    Parameters
    ----------
    state
        ``done`` or ``refused``.
    result
        `Screening.to_dict`.
    detail
        Why refused, or why there are no objects.
    objects
        For the destinations; their files must be on the disk.
    activation_map
        ``float32 [h, w, channels]``, for the console's heatmap.
    measured
        What it counts for the monitor.
    """

    state: Literal["done", "refused"]
    result: dict[str, Any]
    detail: str | None = None
    objects: Sequence[NewObject] = ()
    activation_map: NDArray[np.float32] | None = None
    measured: Measured | None = None
