from __future__ import annotations

from controlplane.xds.acknowledgements import Acknowledgements, Sent


def sent(nonce: str, *names: str, at: float = 0.0) -> Sent:
    return Sent(nonce=nonce, version=f"v{nonce}", names=frozenset(names), at=at)


def test_a_watch_without_responses_is_settled() -> None:
    assert Acknowledgements().settled


def test_an_answer_settles_all_that_was_sent_before_it() -> None:
    acks = Acknowledgements()
    acks.record(sent("1", "a"))
    acks.record(sent("2", "b"))
    assert acks.settle("2", None, 1.0) == {"a", "b"}
    assert acks.settled
    assert acks.settle("1", "too late", 1.0) == frozenset()
    assert acks.rejection is None


def test_an_answer_to_an_earlier_response_leaves_the_last_one_open() -> None:
    acks = Acknowledgements()
    acks.record(sent("1", "a"))
    acks.record(sent("2", "b"))
    assert acks.settle("1", None, 1.0) == {"a"}
    assert not acks.settled


def test_an_unknown_nonce_is_ignored() -> None:
    acks = Acknowledgements()
    acks.record(sent("1", "a"))
    assert acks.settle("made up", "error", 1.0) == frozenset()
    assert acks.accepted is None
    assert acks.rejection is None


def test_a_response_that_was_on_its_way_does_not_mend_a_rejection() -> None:
    acks = Acknowledgements()
    acks.record(sent("1", "a", at=1.0))
    acks.record(sent("2", "a", at=1.0))
    acks.settle("1", "bad", 2.0)
    acks.settle("2", None, 3.0)
    assert acks.rejection is not None
    assert acks.rejection.reason == "bad"


def test_responses_without_an_answer_are_bounded() -> None:
    acks = Acknowledgements()
    for number in range(5000):
        acks.record(sent(str(number)))
    assert len(acks.in_flight) <= 1024
    assert acks.settle("4999", None, 1.0) == frozenset()
    assert acks.settled
