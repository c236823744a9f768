"""What is committed covers exactly what is published, in any order of settling."""

from __future__ import annotations

import random

from campaign import runs

from inference_graph.streams.ledger import HeldMessage, Ledger


def message(offset: int, partition: int = 0) -> HeldMessage:
    return HeldMessage(("frames", partition), offset, 10, b"cam", b"0123456789", [])


def test_a_message_waits_for_those_before_it() -> None:
    ledger = Ledger()
    first, second = message(0), message(1)
    for one in (first, second):
        ledger.add(one)
    ledger.settle(second, [])
    assert ledger.settled(10) == [] and not ledger.wait_settled(0)
    ledger.settle(first, [])
    assert ledger.settled(10) == [first, second] and ledger.settled(1) == [first]
    ledger.committed([first])
    assert (ledger.count, ledger.bytes) == (1, 10)
    assert ledger.settled(10) == [second]


def test_revoked_messages_are_never_committed() -> None:
    ledger = Ledger()
    gone, kept = message(5, 0), message(7, 1)
    for one in (gone, kept):
        ledger.add(one)
    ledger.revoke([("frames", 0)])
    ledger.settle(gone, [])
    ledger.settle(kept, [])
    assert gone.revoked and ledger.settled(10) == [kept]
    ledger.revoke_all()
    assert (ledger.count, ledger.bytes, ledger.settled(10)) == (0, 0, [])


def test_any_order_commits_each_message_once_and_in_order() -> None:
    for seed in range(runs(50, 5000)):
        draw = random.Random(seed)
        ledger, committed, work = Ledger(), dict[int, list[int]](), []
        offsets = [0, 0, 0]
        for _ in range(draw.randrange(60)):
            partition = draw.randrange(3)
            work.append(message(offsets[partition], partition))
            ledger.add(work[-1])
            offsets[partition] += 1
        draw.shuffle(work)
        for one in work:
            ledger.settle(one, [])
            if draw.random() < 0.3:
                batch = ledger.settled(draw.randrange(1, 5))
                ledger.committed(batch)
                for done in batch:
                    committed.setdefault(done.partition[1], []).append(done.offset)
        batch = ledger.settled(100)
        ledger.committed(batch)
        for done in batch:
            committed.setdefault(done.partition[1], []).append(done.offset)
        assert ledger.count == ledger.bytes == 0
        for partition, found in committed.items():
            assert found == list(range(offsets[partition]))
