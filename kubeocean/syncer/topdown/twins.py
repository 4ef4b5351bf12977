"""Makes twins: forge, see to what must be there first, POST.

The virtual Pod is not annotated beforehand: the twin carries the way back on itself, so one write starts a Pod, and a crash
after it is healed by finding the twin under its name.
"""

from __future__ import annotations

import structlog

from kubeocean.api import names
from kubeocean.domain.adoption import build_pod_adoption
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podmap import ForgedPod
from kubeocean.domain.workload import workload_of
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json, key_of, name_of, namespace_of
from kubeocean.kube.resources import PODS
from kubeocean.syncer import metrics
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.topdown.tokens import ensure_token_secrets

log = structlog.get_logger(__name__)


class TwinMaker:
    """Creates the twins of one binding."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        binding = pairing.binding_name
        self._tried = metrics.create_pod_total.labels(binding).inc
        self._failed = metrics.create_pod_errors_total.labels(binding).inc
        self._created = metrics.pod_created_total.labels(binding).inc
        self.count_refusal = metrics.pod_created_failed_total.labels(binding).inc

    async def create(self, vpod: Json, forged: ForgedPod, context: PodContext) -> Json:
        """Create the twin that was forged of `vpod` in `context` and return its metadata as stored.

        Raises DependencyMissing while something it needs is not there, AlreadyExists when its name is in use.
        """
        await ensure_token_secrets(self._pairing, vpod, forged.tokens, context)
        self._tried()
        try:
            twin = await self._pairing.physical.calls.create(PODS, forged.pod, metadata_only=True)
        except KubeError:
            self._failed()
            raise
        self._created()
        return twin

    async def adopt(self, vpod: Json, ppod: Json) -> Json:
        """Make a twin that names no owner ours, as it runs, and return it as stored. Raises NotFound, Conflict."""
        patch = build_pod_adoption(vpod, ppod, self._pairing.owner)
        twin = await self._pairing.physical.calls.patch(PODS, name_of(ppod), namespace_of(ppod), patch)
        log.info("twin adopted", pod=str(key_of(ppod)), virtual=str(key_of(vpod)))
        return twin

    def context_of(self, vpod: Json) -> PodContext:
        """Return what mapping `vpod` must know beside it."""
        pairing, spec = self._pairing, self._pairing.spec
        return PodContext(
            owner=pairing.owner, cluster_id=spec.cluster_id, mount_namespace=pairing.physical.mount_namespace,
            physical_node=pairing.physical_node_of(vpod["spec"]["nodeName"]) or "", direct_scheduling=spec.direct_scheduling,
            allow_privileged=spec.allow_privileged, priority_class=spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS,
            workload=workload_of(vpod), surroundings=pairing.surroundings(namespace_of(vpod)),
        )
