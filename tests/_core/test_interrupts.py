"""Ctrl-C waits for a block that must not stop half-way; a second one doesn't."""

import signal
import threading

import pytest

from xpnn._core.interrupts import held


def press():
    signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_waits():
    done = []

    def work():
        with held() as own:
            press()
            done.append(own.pending)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not():
    done = []

    def work():
        with held():
            press()
            done.append(1)
            press()
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_let_through_is_not_held():
    done = []
    with held() as own:
        with pytest.raises(KeyboardInterrupt), own.raised():
            press()
        # the next one comes while all is being written
        press()
        done.append(own.pending)
        own.pending = False
    assert done == [True]


def test_within_another_block():
    """As in a run, whose callbacks write while it may be interrupted."""
    with held() as outer:
        with pytest.raises(KeyboardInterrupt), outer.raised(), held():
            press()
        assert not outer.pending
        with held():
            press()
        assert outer.pending
        outer.pending = False


def test_the_user_s_own_handler_is_called_at_the_end():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with held():
            press()
            assert heard == []
        assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    found = []

    def work():
        with held() as own:
            found.append(own.pending)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_an_ignored_ctrl_c_stays_ignored(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with held():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
