"""Ctrl-C and SIGTERM end a verb, whatever Python runs when they come."""

from __future__ import annotations

import os
import signal

import pytest

from pipelines.cli.interrupts import until_interrupted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("kind", SIGNALS)
def test_both_signals_interrupt_and_the_handlers_come_back(kind: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(KeyboardInterrupt), until_interrupted() as interrupted:
        os.kill(os.getpid(), kind)
        interrupted.wait(60)
    assert interrupted.is_set()
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_finaliser_swallows_is_still_known() -> None:
    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(10))  # Python calls the handler between two instructions

    with until_interrupted() as interrupted:
        Finalised()  # the exception is dropped: nothing is raised here
        assert interrupted.is_set()


def test_without_raising_only_the_event_is_set() -> None:
    with until_interrupted(raising=False) as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.wait(60)
