import copy
import json
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from xrayedge import Screener


@pytest.fixture(scope="module")
def screening(chest):
    with Screener() as screener:
        return screener.screen(chest, heatmap=True)


def test_a_result_says_whether_it_is_ok(screening):
    assert screening.ok
    with Screener() as screener:
        assert not screener.screen(np.zeros((256, 256), np.uint8)).ok


def test_nothing_in_a_result_can_be_changed(screening):
    with pytest.raises(FrozenInstanceError):
        screening.label = "healthy"
    with pytest.raises(TypeError):
        screening.probabilities["covid"] = 1.0
    with pytest.raises(TypeError):
        screening.timings_ms["total"] = 0.0
    for pixels in (screening.activation_map, screening.heatmap):
        with pytest.raises(ValueError, match="read-only"):
            pixels[:] = 0


def test_a_result_travels_between_processes(screening):
    for other in (pickle.loads(pickle.dumps(screening)), copy.deepcopy(screening)):
        assert other.to_dict() == screening.to_dict()
        assert np.array_equal(other.heatmap, screening.heatmap)
        assert not other.heatmap.flags.writeable


def test_the_contract_is_plain_json(screening):
    values = screening.to_dict()
    values["probabilities"]["covid"] = None  # a copy: the result stays as it is
    assert json.loads(json.dumps(values))["status"] == "screened"
    assert screening.probabilities["covid"] is not None
