"""How the verbs that train show progress, are interrupted, and doubt what they made."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .printing import messages

if TYPE_CHECKING:
    from ..training.run import Epoch, RunRecord

    Progress = Callable[[int, int, Epoch], None]


def _show_epoch(number: int, total: int, epoch: Epoch) -> None:
    val = ""
    if epoch.val_loss is not None:
        val = f"val loss {epoch.val_loss:.4f}  val accuracy {epoch.val_accuracy:.3f}  "
    messages.print(
        f"epoch {number}/{total}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  "
        f"{val}{epoch.seconds:.0f} s"
    )


def show_doubts(record: RunRecord) -> None:
    """Print the doubts about a finished model as warnings."""
    for doubt in record.doubts:
        messages.print(f"warning: {doubt}")


@contextmanager
def interruptible() -> Iterator[Progress]:
    """Make Ctrl-C end a training, and say how to resume it. Yields the callback for epochs.

    Python drops an exception raised while it finalises an object, including `KeyboardInterrupt`;
    the training then ends after the epoch.
    """
    asked = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def show(number: int, total: int, epoch: Epoch) -> None:
        _show_epoch(number, total, epoch)
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield show
    except KeyboardInterrupt:
        messages.print("the same command resumes after the last finished epoch")
        raise
    finally:
        signal.signal(signal.SIGINT, before)
