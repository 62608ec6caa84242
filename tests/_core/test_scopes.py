"""`scope` and `enter` say where operations happen, to `where` and to errors."""

import threading

import pytest

from xpnn._core.scopes import Place, enter, scope, where


def test_the_innermost_place_is_where_operations_happen():
    assert where() is None
    with scope("dense1", "forward"):
        assert where() == Place("dense1", "forward") == ("dense1", "forward")
        assert str(where()) == "dense1 forward"
        with scope("step"):
            enter(Place("loss"))
            assert str(where()) == "loss"
        assert where().name == "dense1"
    assert where() is None


def test_an_error_says_where_it_happened():
    def fail():
        with scope("outside"), scope("data"):
            enter(Place("dense2", "backward"))
            return 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert caught.value.__notes__ == ["in dense2 backward", "in outside"]
    assert where() is None


def test_each_thread_has_a_place_of_its_own():
    found = []
    with scope("dense1", "forward"):
        thread = threading.Thread(target=lambda: found.append(where()))
        thread.start()
        thread.join()
        assert found == [None]
        assert where().name == "dense1"
