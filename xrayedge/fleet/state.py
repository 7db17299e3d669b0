"""What a device remembers about one model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FleetError


@dataclass(frozen=True)
class State:
    """The content of a model's state.json.

    Parameters
    ----------
    serial, digest
        Highest serial ever installed, and the BLAKE2b digest of its file.
    history
        Slots in the order in which they were switched to.
    first_run
        The slot that has not yet completed its first run.
    started
        Whether that run has started.
    """

    serial: int = 0
    digest: str = ""
    history: tuple[str, ...] = ()
    first_run: str | None = None
    started: bool = False

    @classmethod
    def read(cls, path: Path) -> State:
        """Read a state.json; a new state if there is none yet.

        Raises
        ------
        FleetError
            The file is damaged, or can't be read.
        """
        try:
            values: Any = json.loads(path.read_bytes())
            state = cls(**{**values, "history": tuple(map(str, values["history"]))})
            if isinstance(state.serial, bool) or not isinstance(state.serial, int):
                raise ValueError(f"serial is {state.serial!r}")
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise FleetError(f"{path}: can't be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FleetError(
                f"{path}: damaged; remove its folder and install the model again"
            ) from error
        return state

    def to_bytes(self) -> bytes:
        """The content of a state.json."""
        return json.dumps(asdict(self)).encode() + b"\n"
