"""The proxier from start to end.

Beside `runtime`, not in it: manager and syncer need nothing of what it is made of, which is 8 MiB, and it nothing of theirs.
"""

from __future__ import annotations

import asyncio

from kubeocean import __version__
from kubeocean.kube.config import config_from_file
from kubeocean.kube.tlsbuffers import shrink_tls_buffers
from kubeocean.obs.health import HealthServer
from kubeocean.obs.openfiles import allow_most_open_files
from kubeocean.proxier import metrics
from kubeocean.proxier.proxier import Proxier, ProxierOptions
from kubeocean.proxier.sessions import Limits
from kubeocean.proxier.supervised import leave_with_parent, report
from kubeocean.settings import ProxierSettings


async def run_proxier(settings: ProxierSettings) -> None:
    """Serve the kubelet API of virtual nodes until cancelled."""
    config = await config_from_file(str(settings.kubeconfig) if settings.kubeconfig else None)
    namespace, _, secret = settings.tls_secret.partition("/")
    options = ProxierOptions(
        settings.cluster_binding_name, settings.vnode_address, settings.bind_address or settings.vnode_address,
        tls_secret=(namespace, secret) if secret else None,
        limits=Limits(settings.max_streams_per_caller, settings.max_streams_per_cluster), linger=settings.linger,
    )
    proxier = Proxier(config, options, user_agent=f"kubeocean-proxier/{__version__}")
    health = HealthServer(
        health_address=settings.health_probe_bind_address, metrics_address=settings.metrics_bind_address,
        ready={"kubelet API": proxier.trouble},
    )
    metrics.show()
    allow_most_open_files()  # a stream needs two
    shrink_tls_buffers()
    if settings.supervised:
        leave_with_parent(proxier, settings.linger)
    await health.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            if settings.supervised:
                tasks.create_task(report(proxier), name="reports")
            tasks.create_task(proxier.run(), name="proxier")
    finally:
        await health.stop()
