import signal

import pytest

from xrayedge.cli.epochs import interruptible
from xrayedge.training.run import Epoch

EPOCH = Epoch(phase=0, loss=1.0, accuracy=0.5, val_loss=None, val_accuracy=None, seconds=1.0)


class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_drops_ends_the_training_after_the_epoch(capsys):
    before = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), interruptible() as show:  # noqa: PT012 (which line, is tested)
        show(1, 9, EPOCH)
        Finalised()  # what a finaliser raises is dropped
        reached.append("the end of the epoch")
        show(2, 9, EPOCH)
        reached.append("the next epoch")
    assert reached == ["the end of the epoch"]
    assert "the same command resumes after the last finished epoch" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
