import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from xrayedge.streams import in_order


def test_results_come_in_order_whatever_each_takes():
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(10)  # the first ends after the second
        else:
            second.set()
        return item * 10

    assert list(in_order(work, range(20), at_once=2)) == [item * 10 for item in range(20)]


def test_a_result_does_not_wait_for_the_next_item():
    items = queue.Queue()
    items.put(1)
    results = in_order(str, iter(items.get, None), at_once=4)
    assert next(results) == "1"  # no second item is there yet
    items.put(2)
    assert next(results) == "2"
    items.put(None)
    assert list(results) == []


def test_no_more_items_are_taken_than_may_be_in_work():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), at_once=3)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 1 + 3
    results.close()
    assert len(taken) < 100


def test_no_item_is_lost_where_no_thread_can_be_started(monkeypatch):
    """As where a service has no more tasks left: an error in its place, no result of another."""
    submit = ThreadPoolExecutor.submit

    def limited(self, work, item):
        if item == 1:
            raise RuntimeError("can't start new thread")
        return submit(self, work, item)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", limited)
    results = in_order(lambda item: item, range(5), at_once=2)
    assert next(results) == 0
    with pytest.raises(RuntimeError, match="new thread"):
        next(results)


@pytest.mark.parametrize("where", ["work", "items"])
def test_an_error_comes_in_its_place(where):
    def broken(item):
        if item == 2:
            raise KeyError(where)
        return item

    if where == "work":
        results = in_order(broken, range(5), at_once=2)
    else:
        results = in_order(lambda item: item, map(broken, range(5)), at_once=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match=where):
        next(results)
