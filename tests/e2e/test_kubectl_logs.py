"""kubectl logs on a virtual node, every option: byte for byte what the lender would read at the twin."""

import asyncio

import pytest

from tests.e2e.kubectl import NEWER, OLDER, Ways

FLAVOURS = [(OLDER, "WebSocket"), (NEWER, "WebSocket")]  # logs are no stream of either protocol

READ = {
    "a container's log": ("-c", "main"),
    "the first container's, when none is named": (),
    "the last lines": ("-c", "main", "--tail=3"),
    "none of them": ("-c", "main", "--tail=0"),
    "with times": ("-c", "main", "--timestamps"),
    "the first bytes": ("-c", "main", "--limit-bytes=17"),
    "of the last hour": ("-c", "main", "--since=1h"),
    "since a moment": ("-c", "main", "--since-time=2020-01-01T00:00:00Z"),
    "since a moment to come": ("-c", "main", "--since-time=2199-01-01T00:00:00Z"),
    "of the life before": ("-c", "unsteady", "--previous"),
    "of this life": ("-c", "unsteady"),
    "of an init container": ("-c", "setup"),
    "of an init container, to its end": ("-c", "setup", "--follow"),
    "of all containers": ("--all-containers", "--prefix", "--tail=5"),
    "several options at once": ("-c", "main", "--timestamps", "--tail=4", "--since=1h", "--limit-bytes=100"),
}
REFUSED = {
    "a container that is not there": ("shell", "-c", "nosuch"),
    "a life before that never was": ("shell", "-c", "main", "--previous"),
    "a container that cannot start": ("stuck",),
    "a container that cannot start, followed": ("stuck", "--follow", "--pod-running-timeout=1s"),
    "a Pod that is not there": ("nosuch",),
}


@pytest.mark.parametrize("ways", FLAVOURS, indirect=True)
@pytest.mark.parametrize("what", READ)
async def test_logs_are_the_twins(what: str, ways: Ways) -> None:
    words = ("logs", "{pod}", *READ[what])
    through, directly = await asyncio.gather(ways.through("shell", *words), ways.directly("shell", *words))
    assert (through.code, through.err) == (directly.code, directly.err) == (0, through.err)
    if "--prefix" in words:  # kubectl asks for containers in no order
        assert sorted(through.out.splitlines()) == sorted(directly.out.splitlines())
    else:
        assert through.out == directly.out


async def test_the_words_compared_are_the_right_ones(ways: Ways) -> None:
    logs = await asyncio.gather(*(
        ways.through("shell", "logs", "{pod}", "-c", *words)
        for words in (("main",), ("unsteady", "--previous"), ("unsteady",), ("setup",))
    ))
    lines = [f"line {number}".encode() for number in range(1, 21)]
    assert sorted(logs[0].out.splitlines()) == sorted([*lines, b"a complaint"])  # the two outputs meet as they come
    assert [log.out for log in logs[1:]] == [b"first life\n", b"second life\n", b"setting up\ndone\n"]


@pytest.mark.parametrize("ways", FLAVOURS, indirect=True)
@pytest.mark.parametrize("what", REFUSED)
async def test_refusals_are_in_the_words_of_the_far_side(what: str, ways: Ways) -> None:
    pod, *options = REFUSED[what]
    words = ("logs", "{pod}", *options)
    through, directly = await asyncio.gather(ways.through(pod, *words), ways.directly(pod, *words))
    assert through.code == directly.code == 1
    assert set(through.err.splitlines()) == set(directly.err.splitlines())  # some are said again and again
    assert through.err


@pytest.mark.parametrize("ways", FLAVOURS, indirect=True)
async def test_a_followed_log_comes_as_it_is_written(ways: Ways) -> None:
    words = ways.words("shell", ("logs", "{pod}", "-c", "main", "--follow", "--tail=0"))
    async with ways.virtual.started(*words) as follower, asyncio.timeout(20):
        assert follower.stdout
        await asyncio.sleep(1)  # it says nothing by which to know that it follows
        for word in ("one", "two"):
            said = await ways.through("shell", "exec", "{pod}", "-c", "main", "--", "sh", "-c", f"echo {word} >> /tmp/said")
            assert said.code == 0, said.err
            assert await follower.stdout.readline() == f"{word}\n".encode()
