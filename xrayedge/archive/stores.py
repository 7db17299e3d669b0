"""Images by URL, from S3 stores and from web servers: listed, checked and read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from urllib.parse import urlsplit

from ..errors import ArchiveError, ImageError
from ..imaging import Limits
from . import objects, web
from .reading import ACCESS_DENIED, S3, UNREACHABLE, is_object

#: Images that one store must refuse before it is taken to refuse them all.
_PROBES = 5
#: Stores that are asked for an image at the start; a list may name thousands of web servers.
_PROBED_STORES = 50
#: Consecutive unreachable images that count as an outage. Each is tried several times.
_OUTAGE = 10


class Stores:
    """The stores that a process reads images from, opened when they are needed."""

    def __init__(self) -> None:
        self._unreachable = 0  # images, since one came

    @cached_property
    def _objects(self) -> objects.ObjectStore:
        return objects.ObjectStore()

    @cached_property
    def _web(self) -> web.Web:
        return web.Web()

    def list(self, url: str) -> Iterator[tuple[str, int]]:
        """List the objects under ``s3://bucket/prefix``; see `ObjectStore.list`."""
        return self._objects.list(url)

    def read(self, source: str, limits: Limits) -> tuple[bytes, datetime | None]:
        """Read one image.

        Parameters
        ----------
        source
            A URL.
        limits
            Largest file accepted.

        Returns
        -------
        Its bytes, and when it was last changed, in UTC, where the store says so.

        Raises
        ------
        ImageError
            The image can't be read, for the reason ``not-found``, ``access-denied``,
            ``unreachable`` or ``too-large``.
        ArchiveError
            No image can be read: credentials have expired, the bucket is gone, or many consecutive
            images were unreachable.
        """
        try:
            answer = self._of(source).read(source, limits)
        except ImageError as error:
            if error.reason != UNREACHABLE:
                self._unreachable = 0
                raise
            self._unreachable += 1
            if self._unreachable < _OUTAGE:
                raise
            raise ArchiveError(
                f"{_store(source)}: {_OUTAGE} consecutive images can't be reached; "
                "check the network, then run the same command to resume"
            ) from error
        self._unreachable = 0
        return answer

    def probe(self, source: str) -> str | None:
        """Check whether a store delivers an image; a missing image is not the store's fault.

        Returns
        -------
        Why this image is refused; ``None`` if it is not.

        Raises
        ------
        ArchiveError
            The store can't be reached, or does not know these credentials.
        """
        try:
            self._of(source).probe(source)
        except ImageError as error:
            said = str(error).removeprefix(f"{source}: ")
            if error.reason == UNREACHABLE:
                raise ArchiveError(f"{_store(source)}: {said}; check the network") from None
            return said if error.reason == ACCESS_DENIED else None
        return None

    def close(self) -> None:
        """Close all connections."""
        for name in ("_objects", "_web"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def _of(self, source: str) -> objects.ObjectStore | web.Web:
        return self._objects if is_object(source) else self._web


class Check:
    """Checks, while a list is read, that its stores deliver images at all.

    Parameters
    ----------
    stores
        Asked for the first images of each.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._refused: dict[str, list[str]] = {}  # of each store that has given none yet, why
        self._giving: set[str] = set()

    def see(self, source: str) -> None:
        """Check the next URL.

        Raises
        ------
        ArchiveError
            Its store can't be reached or refuses its first images, or the URL holds credentials.
        """
        if not is_object(source):
            web.check(source)
        store = _store(source)
        if store in self._giving or len(self._giving) >= _PROBED_STORES:
            return
        refusal = self._stores.probe(source)
        if refusal is None:
            self._giving.add(store)
            self._refused.pop(store, None)
            return
        self._refused.setdefault(store, []).append(refusal)
        if len(self._refused[store]) >= _PROBES:
            raise _none_of(store, refusal)

    def end(self) -> None:
        """Judge a list that may have been too short for `see` to decide.

        Raises
        ------
        ArchiveError
            No store gave any image.
        """
        if self._refused and not self._giving:
            store, refusals = next(iter(self._refused.items()))
            raise _none_of(store, refusals[-1])


def _store(url: str) -> str:
    """The bucket or the web server, for messages."""
    if is_object(url):
        return S3 + objects.split(url)[0]
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _none_of(store: str, refusal: str) -> ArchiveError:
    return ArchiveError(f"{store}: none of the first images can be read: {refusal}")
