"""What the fixtures of real containers hand out."""

from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import Lender


@dataclass(frozen=True, slots=True)
class RealFederation:
    """A virtual and a physical cluster, and a binding with directScheduling that leases all of the real node."""

    sandbox: Sandbox
    lender: Lender

    @property
    def node(self) -> str:
        """The physical node."""
        return self.lender.pool.nodes[0]

    @property
    def vnode(self) -> str:
        """The virtual node that stands for it."""
        return self.lender.vnode()

    @property
    def disk(self) -> Path:
        """A folder that this machine and the real node see at the same path; it goes with the sandbox."""
        folder = self.sandbox.real_nodes[0].folder / "disk"
        folder.mkdir(exist_ok=True)
        return folder
