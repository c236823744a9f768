"""What is committed covers exactly what is published, in any order of settling."""

from __future__ import annotations

import random

from campaign import runs

from inference_graph.streams.uncommitted import HeldMessage, UncommittedMessages


def message(offset: int, partition: int = 0) -> HeldMessage:
    return HeldMessage(("frames", partition), offset, 10, b"cam", b"0123456789", [])


def test_a_message_waits_for_those_before_it() -> None:
    uncommitted = UncommittedMessages()
    first, second = message(0), message(1)
    for one in (first, second):
        uncommitted.add(one)
    uncommitted.settle(second, [])
    assert uncommitted.settled(10) == [] and not uncommitted.wait_settled(0)
    uncommitted.settle(first, [])
    assert uncommitted.settled(10) == [first, second] and uncommitted.settled(1) == [first]
    uncommitted.committed([first])
    assert (uncommitted.count, uncommitted.bytes) == (1, 10)
    assert uncommitted.settled(10) == [second]


def test_revoked_messages_are_never_committed() -> None:
    uncommitted = UncommittedMessages()
    gone, kept = message(5, 0), message(7, 1)
    for one in (gone, kept):
        uncommitted.add(one)
    uncommitted.revoke([("frames", 0)])
    uncommitted.settle(gone, [])
    uncommitted.settle(kept, [])
    assert gone.revoked and uncommitted.settled(10) == [kept]
    uncommitted.revoke_all()
    assert (uncommitted.count, uncommitted.bytes, uncommitted.settled(10)) == (0, 0, [])


def test_any_order_commits_each_message_once_and_in_order() -> None:
    for seed in range(runs(50, 5000)):
        draw = random.Random(seed)
        uncommitted, committed, work = UncommittedMessages(), dict[int, list[int]](), []
        offsets = [0, 0, 0]
        for _ in range(draw.randrange(60)):
            partition = draw.randrange(3)
            work.append(message(offsets[partition], partition))
            uncommitted.add(work[-1])
            offsets[partition] += 1
        draw.shuffle(work)
        for one in work:
            uncommitted.settle(one, [])
            if draw.random() < 0.3:
                batch = uncommitted.settled(draw.randrange(1, 5))
                uncommitted.committed(batch)
                for done in batch:
                    committed.setdefault(done.partition[1], []).append(done.offset)
        batch = uncommitted.settled(100)
        uncommitted.committed(batch)
        for done in batch:
            committed.setdefault(done.partition[1], []).append(done.offset)
        assert uncommitted.count == uncommitted.bytes == 0
        for partition, found in committed.items():
            assert found == list(range(offsets[partition]))
