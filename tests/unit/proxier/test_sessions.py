"""Streams are counted before they are dialled, told of when they end, and freed however they end."""

import asyncio

import pytest
import structlog.testing

from kubeocean.proxier.callers import Caller
from kubeocean.proxier.sessions import Limits, Session, Sessions, TooManySessions

pytestmark = pytest.mark.looptime
ANN, BOB = Caller("ann"), Caller("bob")


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_caller_and_a_cluster_have_their_limits() -> None:
    sessions = Sessions(Limits(per_caller=2, per_cluster=3))
    held = [sessions.open(ANN, "lender", "exec") for _ in range(2)]
    with pytest.raises(TooManySessions, match="ann has 2 streams open"):
        sessions.open(ANN, "other", "exec")
    sessions.open(BOB, "lender", "exec")
    with pytest.raises(TooManySessions, match="binding lender has 3 streams open"):
        sessions.open(BOB, "lender", "exec")
    sessions.close(held[0], "closed")
    sessions.open(ANN, "other", "exec")
    assert len(sessions) == 3


def test_closing_twice_counts_once_and_tells_once() -> None:
    sessions = Sessions(Limits(per_caller=1))
    first = sessions.open(ANN, "lender", "exec")
    with structlog.testing.capture_logs() as told:
        sessions.close(first, "refused: 404")
        sessions.open(ANN, "lender", "exec")
        sessions.close(first, "closed")
    assert [(each["event"], each["ended"]) for each in told] == [("session", "refused: 404")]
    assert len(sessions) == 1


async def test_the_audit_line_tells_who_what_how_much_and_how_it_ended() -> None:
    sessions = Sessions()

    async def carry() -> None:
        session.traffic.received, session.traffic.sent = 5, 7
        await asyncio.sleep(2)

    session = sessions.open(ANN, "lender", "exec", pod="team/web", container="app", command="cat")
    with structlog.testing.capture_logs() as told:
        sessions.start(session, carry, lambda: None)
        await asyncio.sleep(3)
    told[0].pop("seconds")
    assert told == [{
        "event": "session", "log_level": "info", "user": "ann", "binding": "lender", "action": "exec", "pod": "team/web",
        "container": "app", "command": "cat", "received": 5, "sent": 7, "ended": "closed",
    }]


async def test_what_is_carried_on_outlives_the_request_that_began_it() -> None:
    sessions, freed = Sessions(), list[str]()
    session = sessions.open(ANN, "lender", "exec")
    with sessions.hold(session):
        sessions.start(session, for_ever, lambda: freed.append("freed"))
    await asyncio.sleep(1)
    assert (len(sessions), freed) == (1, [])
    assert sessions.cut("other") == 0
    assert sessions.cut("lender") == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (len(sessions), freed, session.ended) == (0, ["freed"], "cut")


async def test_a_stream_that_is_cut_before_it_began_is_freed_too() -> None:
    sessions, freed = Sessions(), list[str]()
    sessions.start(sessions.open(ANN, "lender", "exec"), for_ever, lambda: freed.append("freed"))
    sessions.cut()
    await asyncio.sleep(0.1)
    assert (len(sessions), freed) == (0, ["freed"])


async def test_a_request_that_fails_is_counted_no_longer_and_says_why() -> None:
    sessions = Sessions()
    session = sessions.open(ANN, "lender", "logs")
    with pytest.raises(OSError, match="gone"), sessions.hold(session):
        raise OSError("gone")
    assert (len(sessions), session.ended) == (0, "OSError")


async def test_on_a_stop_streams_may_end_by_themselves_and_those_that_do_not_are_cut() -> None:
    sessions = Sessions()
    brief, endless = (sessions.open(ANN, "lender", "exec") for _ in range(2))
    sessions.start(brief, lambda: asyncio.sleep(5), lambda: None)
    sessions.start(endless, for_ever, lambda: None)
    began = asyncio.get_running_loop().time()
    await sessions.drain(15)
    assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=0.1)
    assert (brief.ended, endless.ended, len(sessions)) == ("closed", "cut", 0)


async def test_a_thousand_streams_leave_no_task_behind() -> None:
    sessions, before = Sessions(), len(asyncio.all_tasks())

    def begin(session: Session) -> None:
        sessions.start(session, for_ever, lambda: None)

    for _ in range(1000):
        begin(sessions.open(ANN, "lender", "exec"))
    await asyncio.sleep(0.1)
    sessions.cut("lender")
    await sessions.drain(1)
    assert (len(asyncio.all_tasks()), len(sessions)) == (before, 0)
