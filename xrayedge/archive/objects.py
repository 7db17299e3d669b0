"""Images in an object store that speaks S3: listed page by page, read whole.

botocore rather than `pyarrow.fs`, which holds the whole listing of a prefix in memory and tells
distinguishes neither a wrong key from a denied one nor a missing object from a missing bucket.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import ArchiveError, ImageError
from ..imaging import Limits
from .reading import (
    ACCESS_DENIED,
    CHUNK,
    CONNECT_SECONDS,
    IMAGE_SECONDS,
    NOT_FOUND,
    READ_SECONDS,
    S3,
    TRIES,
    UNREACHABLE,
    collected,
)

#: S3's error codes for an object, and the reason given in its image's row.
_OF_OBJECT = {
    "NoSuchKey": (NOT_FOUND, "no such object"),
    "404": (NOT_FOUND, "no such object"),
    "AccessDenied": (ACCESS_DENIED, "access denied"),
    "403": (ACCESS_DENIED, "access denied"),
    "InvalidObjectState": (UNREACHABLE, "in an archive's storage class; restore it first"),
}
#: S3's error codes if no object of the bucket can be read, and what to do.
_OF_BUCKET = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "that is no bucket's name",
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or "
    "AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "ExpiredToken": "the credentials have expired; sign in again",
    "InvalidToken": "the session token is wrong; check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
#: A listing may also be denied for the whole prefix.
_OF_LISTING = {
    **_OF_BUCKET,
    "AccessDenied": "listing it is not allowed; check AWS_PROFILE or the bucket's policy",
    "403": "listing it is not allowed; check AWS_PROFILE or the bucket's policy",
}


def split(url: str) -> tuple[str, str]:
    """The bucket and the key, or prefix, of ``s3://bucket/key``; a key may hold any character."""
    bucket, _, key = url[len(S3) :].partition("/")
    if not bucket:
        raise ArchiveError(f"{url}: names no bucket; write s3://BUCKET/PREFIX")
    return bucket, key


class ObjectStore:
    """A client of an S3 store; threads may share it.

    Credentials, region and endpoint come from where AWS's own tools find them: the environment
    (``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...), ``~/.aws``, or the
    machine's role. Without any, requests are not signed, which a public bucket allows.
    """

    def __init__(self) -> None:
        try:
            session = botocore.session.get_session()
            self._anonymous = session.get_credentials() is None
            options: dict[str, Any] = {"signature_version": UNSIGNED} if self._anonymous else {}
            config = Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "max_attempts": TRIES},
                **options,
            )
            client = session.create_client("s3", config=config)
            if ".amazonaws.com" not in client.meta.endpoint_url:
                # A self-hosted store rarely has a DNS name for each bucket.
                config = config.merge(Config(s3={"addressing_style": "path"}))
                client = session.create_client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ArchiveError(f"S3: {_without_values(error)}") from None
        self._client = client

    def list(self, url: str) -> Iterator[tuple[str, int]]:
        """The URLs and sizes in bytes of the objects under ``s3://bucket/prefix``, by key.

        A page of at most 1,000 keys is in memory at a time.

        Raises
        ------
        ArchiveError
            The bucket can't be listed, with the cause and the remedy.
        """
        bucket, prefix = split(url)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            for page in pages:
                for one in page.get("Contents", ()):
                    yield f"{S3}{bucket}/{one['Key']}", one["Size"]
        except (BotoCoreError, ClientError) as error:
            raise self._of_store(bucket, error, _OF_LISTING) from None

    def read(self, source: str, limits: Limits) -> tuple[bytes, datetime]:
        """The bytes of an object, and when it was last changed; see `Stores.read`."""
        bucket, key = split(source)
        until = time.monotonic() + IMAGE_SECONDS
        for tries_left in reversed(range(TRIES)):
            answer = self._ask(source, Bucket=bucket, Key=key)
            try:
                with answer["Body"] as body:
                    limits.check_bytes(answer["ContentLength"], source)
                    chunks = iter(partial(body.read, CHUNK), b"")
                    return collected(chunks, source, limits, until), answer["LastModified"]
            except BotoCoreError as error:  # the connection broke in the middle
                if not tries_left or time.monotonic() > until:
                    raise self._of_image(source, error) from None
        raise AssertionError("the last try returns or raises")

    def probe(self, source: str) -> None:
        """Ask for an object's first byte; raises what `read` raises."""
        bucket, key = split(source)
        self._ask(source, Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, source: str, **request: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._client.get_object(**request)
        except (BotoCoreError, ClientError) as error:  # retried already if useful
            if _code(error) == "InvalidRange":  # of an empty object
                return self._ask(source, Bucket=request["Bucket"], Key=request["Key"])
            raise self._of_image(source, error) from None
        return answer

    def _of_image(
        self, source: str, error: BotoCoreError | ClientError
    ) -> ImageError | ArchiveError:
        code = _code(error)
        if code in _OF_BUCKET or _is_of_credentials(error):
            return self._of_store(split(source)[0], error, _OF_BUCKET)
        reason, said = _OF_OBJECT.get(code, (UNREACHABLE, f"can't be read ({_short(error)})"))
        if reason == ACCESS_DENIED and self._anonymous:
            said += ", and there are no credentials"
        return ImageError(f"{source}: {said}", reason=reason)

    def _of_store(
        self, bucket: str, error: BotoCoreError | ClientError, known: dict[str, str]
    ) -> ArchiveError:
        said = known.get(_code(error), f"can't be read ({_short(error)})")
        if self._anonymous and "not allowed" in said:
            said = "not public, and there are no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        if _is_of_credentials(error):
            said = f"no usable credentials ({_short(error)}); set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        elif _code(error) == "EndpointConnectionError":
            host = urlsplit(self._client.meta.endpoint_url).netloc.rpartition("@")[2]
            said = f"{host} can't be reached; check the network"
        return ArchiveError(f"{S3}{bucket}: {said}")


def _code(error: BotoCoreError | ClientError) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return type(error).__name__


def _is_of_credentials(error: Exception) -> bool:
    return any(part in type(error).__name__ for part in ("Credential", "Token", "SSO"))


def _short(error: BotoCoreError | ClientError) -> str:
    """The kind of error: its text may hold a signed URL."""
    code = _code(error)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return f"{code}, HTTP status {status}" if status and str(status) != code else code
    return code


def _without_values(error: Exception) -> str:
    return f"the configuration can't be used ({type(error).__name__}); check ~/.aws and AWS_*"
