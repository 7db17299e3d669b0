"""What a device remembers of one model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FleetError


@dataclass(frozen=True)
class State:
    """What a model's state.json says.

    Parameters
    ----------
    serial, digest
        Highest serial that was ever installed, and the BLAKE2b of its file.
    history
        Slots in the order in which they came into use.
    first_run
        The slot whose first run has not succeeded yet.
    started
        Whether that run has begun.
    """

    serial: int = 0
    digest: str = ""
    history: tuple[str, ...] = ()
    first_run: str | None = None
    started: bool = False

    @classmethod
    def read(cls, path: Path) -> State:
        """From a state.json; a new one where there is none yet.

        Raises
        ------
        FleetError
            The file is damaged.
        """
        try:
            values: Any = json.loads(path.read_bytes())
            state = cls(**{**values, "history": tuple(map(str, values["history"]))})
            if isinstance(state.serial, bool) or not isinstance(state.serial, int):
                raise ValueError(f"serial is {state.serial!r}")
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FleetError(
                f"{path}: damaged; remove its folder and install the model again"
            ) from error
        return state

    def to_bytes(self) -> bytes:
        """As `read` takes it."""
        return json.dumps(asdict(self)).encode() + b"\n"
