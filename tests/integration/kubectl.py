"""kubectl, as users have it."""

import asyncio

from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.state import ClusterHandle


class Kubectl:
    """Runs kubectl against one cluster."""

    def __init__(self, assets: Assets, cluster: ClusterHandle) -> None:
        self.argv = (str(assets.kubectl), f"--kubeconfig={cluster.kubeconfig}")

    async def __call__(self, *args: str) -> str:
        """Return its output; fails when it does."""
        process = await asyncio.create_subprocess_exec(
            *self.argv, *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, f"kubectl {' '.join(args)}: {output.decode()}"
        return output.decode()
