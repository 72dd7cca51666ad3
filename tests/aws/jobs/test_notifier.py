"""Who is notified next, and how fast."""

from __future__ import annotations

from agent.aws.jobs.service.notifier import Notifier
from agent.aws.jobs.service.repository import Mailbox, Notice


def mailbox(number: int) -> Mailbox:
    return Mailbox(f"thing-{number}", "")


def waiting(count: int) -> Notifier:
    notifier = Notifier()
    for number in range(count):
        notifier.put(Notice(mailbox(number), True, True))
    return notifier


def sent(notifier: Notifier, now: float, *, calls: bool) -> list[Mailbox]:
    """Everyone who is notified at that time."""
    gone = []
    while (notice := notifier.take(now)) is not None:
        notifier.sent(notice.mailbox, now, calls=calls)
        gone.append(notice.mailbox)
    return gone


def test_several_changes_of_a_device_are_one_notice():
    notifier = Notifier()
    notifier.put(Notice(mailbox(1), True, False))
    notifier.put(Notice(mailbox(2), True, True))
    notifier.put(Notice(mailbox(1), False, True))
    assert notifier.take(0) == Notice(mailbox(1), True, True)
    assert notifier.take(0) == Notice(mailbox(2), True, True)
    assert notifier.take(0) is None


def test_no_more_are_in_flight_than_the_broker_acknowledges():
    notifier = waiting(1000)
    first = sent(notifier, 0, calls=False)
    assert 0 < len(first) < 1000
    assert notifier.due() is None  # only an acknowledgement changes that
    notifier.ended(first[0])
    assert sent(notifier, 0, calls=False) == [mailbox(len(first))]


def test_no_more_are_called_than_ask_and_who_is_away_holds_up_nobody_for_long():
    notifier, called = waiting(1000), []
    while gone := sent(notifier, 0, calls=True):
        called += gone
        for one in gone:
            notifier.ended(one)
    assert 0 < len(called) < 1000
    due = notifier.due()
    assert due is not None
    assert notifier.take(due / 2) is None
    notifier.asked(called[0])
    assert len(sent(notifier, due / 2, calls=True)) == 1
    assert sent(notifier, due, calls=True)


def test_a_notice_is_settled_when_it_arrived_and_no_newer_one_waits():
    notifier = waiting(2)
    sent(notifier, 0, calls=False)
    notifier.put(Notice(mailbox(1), True, True))
    notifier.ended(mailbox(0))
    notifier.ended(mailbox(1))
    assert notifier.take_settled() == [mailbox(0)]
    assert [*sent(notifier, 0, calls=False)] == [mailbox(1)]
    notifier.ended(mailbox(1))
    assert notifier.take_settled() == [mailbox(1)]
    assert notifier.take_settled() == []
