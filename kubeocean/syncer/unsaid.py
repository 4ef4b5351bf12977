"""What the virtual API server does not keep of a twin's status, although it was told.

An older one drops the fields it does not know, and those of features that are off there. Nothing happens then: no new
revision, no event. Sent again in every pass it would cost a write each time and, worse, stand in the way of all that comes
after the status. So it is noted, by the revisions of both Pods, what was said in vain; either of them changing makes it worth
another try.
"""

from __future__ import annotations

from kubeocean.kube.meta import Json, ObjectKey, resource_version_of


class Unsaid:
    """Remembers, by Pod, at which revisions of both sides a status was sent and changed nothing."""

    def __init__(self) -> None:
        self._revisions: dict[ObjectKey, tuple[str, str]] = {}

    def note(self, key: ObjectKey, vpod: Json, ppod: Json) -> None:
        """Take that a status was sent in vain."""
        self._revisions[key] = _revisions(vpod, ppod)

    def knows(self, key: ObjectKey, vpod: Json, ppod: Json) -> bool:
        """Tell whether there is no use in sending it again."""
        return self._revisions.get(key) == _revisions(vpod, ppod)

    def forget(self, key: ObjectKey) -> None:
        """Forget a Pod that is gone."""
        self._revisions.pop(key, None)


def _revisions(vpod: Json, ppod: Json) -> tuple[str, str]:
    return resource_version_of(vpod), resource_version_of(ppod)
