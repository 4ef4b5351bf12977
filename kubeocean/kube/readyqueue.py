"""In which order ready keys are handed out: the decision of a work queue that has no time and no tasks in it.

`Fifo` suits a controller with few keys. `FairQueue` suits one whose keys belong to tenants: it takes turns between them, so
that nobody waits for more than one key of each other, however many one of them has; and what happens now comes before what a
start merely looks at again, which has a small share all the same. A key that waits for such a look moves up when something
happens to it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

LOW_SHARE: Final = 16

K = TypeVar("K", bound=Hashable)


class ReadyQueue(Protocol[K]):
    """Decides the order in which ready keys are handed out. It holds a key once: whoever pushes sees to that."""

    def push(self, key: K, /, *, low: bool) -> None:
        """Take a key that is not in it; `low` keys can wait for the others."""

    def raise_up(self, key: K, /) -> None:
        """Have a key that was pushed as a low one come with the others."""

    def pop(self) -> K:
        """Give the next key; only asked when there is one."""

    def __len__(self) -> int: ...


class Fifo(Generic[K]):
    """First come, first served; low keys do not wait for others."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: deque[K] = deque()

    def push(self, key: K, /, *, low: bool = False) -> None:
        """See ReadyQueue."""
        self._keys.append(key)

    def raise_up(self, key: K, /) -> None:
        """See ReadyQueue."""

    def pop(self) -> K:
        """See ReadyQueue."""
        return self._keys.popleft()

    def __len__(self) -> int:
        return len(self._keys)


class FairQueue(Generic[K]):
    """Low keys after the others; within both, one key of each tenant (`tenant_of` a key) in turn, each tenant's in order.

    While others never end a low key comes after every LOW_SHARE of them: a tenant that keeps all workers busy for hours must
    not keep the others' Pods from ever being looked at.
    """

    __slots__ = ("_high", "_low", "_passed", "_tenant_of")

    def __init__(self, tenant_of: Callable[[K], Hashable]) -> None:
        self._tenant_of = tenant_of
        self._high: _Round[K] = _Round()
        self._low: _Round[K] = _Round()
        self._passed = 0  # how many came before the low key that is next

    def push(self, key: K, /, *, low: bool = False) -> None:
        """See ReadyQueue."""
        (self._low if low else self._high).push(self._tenant_of(key), key)

    def raise_up(self, key: K, /) -> None:
        """See ReadyQueue."""
        tenant = self._tenant_of(key)
        self._low.remove(tenant, key)
        self._high.push(tenant, key)

    def pop(self) -> K:
        """See ReadyQueue."""
        if self._high.size and not (self._low.size and self._passed >= LOW_SHARE):
            self._passed = self._passed + 1 if self._low.size else 0
            return self._high.pop()
        self._passed = 0
        return self._low.pop()

    def __len__(self) -> int:
        return self._high.size + self._low.size


class _Round(Generic[K]):
    """The tenants that have keys, the one whose turn it is first; `size` counts keys. Every step takes the same short time."""

    __slots__ = ("_tenants", "size")

    def __init__(self) -> None:
        # OrderedDict: taking the first of a plain dict again and again walks over all that were taken before.
        self._tenants: OrderedDict[Hashable, OrderedDict[K, None]] = OrderedDict()
        self.size = 0

    def push(self, tenant: Hashable, key: K) -> None:
        keys = self._tenants.get(tenant)
        if keys is None:
            keys = self._tenants[tenant] = OrderedDict()
        keys[key] = None
        self.size += 1

    def remove(self, tenant: Hashable, key: K) -> None:
        keys = self._tenants[tenant]
        del keys[key]
        if not keys:
            del self._tenants[tenant]
        self.size -= 1

    def pop(self) -> K:
        tenant, keys = next(iter(self._tenants.items()))
        key, _ = keys.popitem(last=False)
        if keys:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        self.size -= 1
        return key
