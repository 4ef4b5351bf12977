"""Whether copies stay as we wrote them, for those of which that is a promise to somebody.

Somebody in the physical cluster may change or delete a copy of ours: once by mistake, which is mended and not worth a word, or
again and again (a GitOps tool, a controller, an admission webhook), which no mending ends. Then the copy is as it should be now
and then, for a moment; to take such a moment for the promise kept would be to break it. So after a few alterations that is
told, and the copy counts again only when it has stayed as it is for a while, a longer one after each alteration.

Told apart from our own changes by what the copy is meant to be (its *meaning*): the first write of a meaning is ours.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubeocean.kube.meta import ObjectKey

TOLD_AFTER = 3  # alterations
LASTS = 5.0  # seconds for which a copy that is there was not what it should be, after which it is told too
HELD, LONGEST = 10.0, 300.0  # seconds for which a copy has to stay; doubled with each alteration that follows
QUIET = 600.0  # seconds without an alteration after which those of before are history


@dataclass(slots=True)
class _Story:
    """What befell one copy. Times are loop time."""

    meaning: str
    at: float  # when it was last not what it should be
    times: int = 0
    told: bool = False
    wrong_since: float | None = None
    right_since: float | None = None
    version: str | None = None  # at which it was found wrong last; None = it was right, or deleted, since then

    def length(self) -> float:
        """Return for how many seconds it has to stay."""
        return min(HELD * 2.0 ** min(max(0, self.times - TOLD_AFTER), 30), LONGEST) if self.told else 0.0


class Holding:
    """The copies of one kind, by their originals."""

    def __init__(self) -> None:
        self._stories: dict[ObjectKey, _Story] = {}

    def __len__(self) -> int:
        return len(self._stories)

    def wrong(self, key: ObjectKey, meaning: str, version: str) -> bool:
        """Take that a copy is not what is meant, though it was written; returns whether somebody keeps altering it.

        `version` is its resourceVersion, "" when there is none.
        """
        now = asyncio.get_running_loop().time()
        story = self._stories.get(key)
        if story is None or story.meaning != meaning or now - story.at > QUIET:
            altered = story is not None and story.meaning == meaning
            self._stories[key] = _Story(meaning, now, int(altered), wrong_since=now, version=version)
            return False
        if story.version != version and (story.version is None or version):
            story.times += 1
        story.at, story.version, story.right_since = now, version, None
        story.wrong_since = now if story.wrong_since is None else story.wrong_since
        # Of one that is not there a cache that lags may be the cause; of one that is, the write would have been a Conflict.
        lasts = bool(version) and now - story.wrong_since >= LASTS
        story.told = story.told or story.times >= TOLD_AFTER or lasts
        return story.told

    def right(self, key: ObjectKey, meaning: str) -> float:
        """Take that a copy is what is meant; return for how many seconds it has to stay so before that counts."""
        now = asyncio.get_running_loop().time()
        story = self._stories.get(key)
        if story is None or story.meaning != meaning:
            self._stories[key] = _Story(meaning, now, right_since=now)
            return 0.0
        story.wrong_since = story.version = None
        story.right_since = now if story.right_since is None else story.right_since
        return max(0.0, story.right_since + story.length() - now)

    def deleted(self, key: ObjectKey) -> None:
        """Take that the server said a copy was deleted."""
        if story := self._stories.get(key):
            story.version = None

    def forget(self, key: ObjectKey) -> None:
        """Take that there is to be no copy any more."""
        self._stories.pop(key, None)
