"""Where `xrayedge.fleet` installs models, and where a model's name is looked up."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import BundleError

#: Names the folder of installed models; a unit's service sets it, such as to /var/lib/xrayedge.
VARIABLE = "XRAYEDGE_MODELS"
#: In a model's folder: the link to the slot in use.
LINK = "current"
#: In a slot: the signature that was checked when it was installed, or the note that there is none.
SIGNATURE_FILE = ".release.minisig"
UNSIGNED_FILE = ".unsigned"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def models_folder() -> Path:
    """The folder of installed models, whether it is there or not."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "xrayedge" / "models"


def installed_folder(name: str) -> Path | None:
    """The slot that an installed model's name means, ``None`` where no such model is installed.

    Raises
    ------
    BundleError
        The slot was not written by ``xrayedge models install``.
    """
    if not _NAME.fullmatch(name):
        return None
    try:
        # The slot itself, not the link: an update must not change it between two files.
        slot = (models_folder() / name / LINK).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    if not any((slot / file).is_file() for file in (SIGNATURE_FILE, UNSIGNED_FILE)):
        raise BundleError(
            f"{slot}: not installed by xrayedge, so nobody checked its signature; use "
            "`xrayedge models install`, or name the folder itself"
        )
    return slot
