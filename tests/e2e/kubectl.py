"""kubectl as users have it, of two minor versions, and the same command put to a virtual Pod and straight to its twin."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.federation import twin_name

OLDER, NEWER = "1.34", "1.36"  # that of the sandbox; that of the wheel in the lock file
FLAVOURS: Final = tuple((version, protocol) for version in (OLDER, NEWER) for protocol in ("WebSocket", "SPDY"))
_ID: Final = re.compile(r"[0-9a-f]{64}|\b\d+ (?=(execution|copying))")  # of one exec; nothing of it is the same twice


def program_of(version: str, assets: Assets) -> Path:
    """Return the kubectl of a version."""
    return assets.kubectl if version == OLDER else Path(sys.executable).with_name("kubectl")


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs one kubectl against one cluster, streams over one of the two protocols."""

    program: Path
    kubeconfig: Path
    protocol: str

    async def __call__(self, *args: str, stdin: bytes = b"", within: float = 60) -> Ran:
        """Run it to its end."""
        async with self.started(*args) as process, asyncio.timeout(within):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ran(process.returncode, out, err.decode())

    @asynccontextmanager
    async def started(self, *args: str) -> AsyncIterator[Process]:
        """Start it, with pipes; it is killed in the end."""
        process = await asyncio.create_subprocess_exec(
            *self.argv(*args), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.environment, limit=2**24
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def argv(self, *args: str) -> tuple[str, ...]:
        return (str(self.program), f"--kubeconfig={self.kubeconfig}", *args)

    @property
    def environment(self) -> dict[str, str]:
        switch = str(self.protocol == "WebSocket").lower()
        home = str(self.kubeconfig.with_name("kubectl-home"))  # it goes with the sandbox, as does what kubectl keeps there
        return {
            "PATH": os.environ["PATH"], "HOME": home, "KUBERC": "off",
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": switch, "KUBECTL_PORT_FORWARD_WEBSOCKETS": switch,
        }


@dataclass(frozen=True, slots=True)
class Ways:
    """Two ways to the same containers: by the virtual Pod `namespace/POD`, and by its twin in `twins`."""

    virtual: Kubectl
    direct: Kubectl
    namespace: str
    twins: str

    async def through(self, pod: str, *words: str, stdin: bytes = b"") -> Ran:
        """Run a command about a virtual Pod; `{pod}` and `{namespace}` in `words` stand for it."""
        return await self.virtual(*self.words(pod, words), stdin=stdin)

    async def directly(self, pod: str, *words: str, stdin: bytes = b"") -> Ran:
        """Run the same command about its twin, and put the virtual names into what it said."""
        return self.in_virtual_names(await self.direct(*_filled(words, self.twin(pod), self.twins), stdin=stdin), pod)

    def in_virtual_names(self, ran: Ran, pod: str) -> Ran:
        """Put the virtual names in place of the twin's."""
        return Ran(ran.code, self._renamed(ran.out.decode("latin-1"), pod).encode("latin-1"), self._renamed(ran.err, pod))

    def twin(self, pod: str) -> str:
        return twin_name(pod, self.namespace)

    def words(self, pod: str, words: Sequence[str]) -> tuple[str, ...]:
        return _filled(words, pod, self.namespace)

    def _renamed(self, text: str, pod: str) -> str:
        return text.replace(self.twin(pod), pod).replace(self.twins, self.namespace)


def _filled(words: Sequence[str], pod: str, namespace: str) -> tuple[str, ...]:
    first, *rest = (word.replace("{pod}", pod).replace("{namespace}", namespace) for word in words)
    return (first, f"--namespace={namespace}", *rest)


def without_ids(ran: Ran) -> Ran:
    """Return it without what differs whenever the same command is run twice."""
    return Ran(ran.code, ran.out, _ID.sub("ID ", ran.err))


def ways(assets: Assets, flavour: tuple[str, str], virtual: ClusterHandle, physical: ClusterHandle, *names: str) -> Ways:
    version, protocol = flavour
    program = program_of(version, assets)
    namespace, twins = names
    above, below = (Kubectl(program, cluster.kubeconfig, protocol) for cluster in (virtual, physical))
    return Ways(above, below, namespace, twins)
