"""The token a Pod would find in its ServiceAccount volume, carried to where the Pod really runs.

The virtual API server injects a projected volume into every ordinary Pod: a token, the cluster's CA, the namespace. The
physical kubelet cannot fill it, for the ServiceAccount lives elsewhere; so we mint the token (TokenRequest, bound to the
virtual Pod: it dies with it) and put the three files into one Secret per volume, which the twin mounts in their place.

The Secret is written before the twin that mounts it. A crash between the two leaves a Secret that the next pass finds
under the same name and keeps; one whose Pod is gone is removed by the Pod's last pass, or by the first after a restart.
How it fares from then on is `tokenkeeper`'s affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import random

from kubeocean.api import names
from kubeocean.clusters.physical import BY_VIRTUAL
from kubeocean.clusters.tokensummary import TokenSecretHead
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.domain.podtoken import TokenSecret, TokenSource, build_token_secret
from kubeocean.domain.tokenlife import MintedToken, TokenLife, plan_life, read_minted
from kubeocean.kube.errors import AlreadyExists, NotFound
from kubeocean.kube.meta import Json, ObjectKey, annotations_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import SECRETS, SERVICEACCOUNTS
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.proofs import read_virtual_pod


class DependencyMissing(Exception):
    """Something the Pod needs is not there yet; `reason` is the Event's, the message names the object."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def ensure_token_secrets(pairing: Pairing, vpod: Json, tokens: Sequence[TokenSecret], context: PodContext) -> None:
    """Make every Secret in `tokens` exist for `vpod`. Raises DependencyMissing while the namespace has no CA ConfigMap."""
    for token in tokens:
        if pairing.physical.token_secrets.store.get(ObjectKey(pairing.physical.mount_namespace, token.name)) is None:
            await _create(pairing, vpod, token, context)


async def _create(pairing: Pairing, vpod: Json, token: TokenSecret, context: PodContext) -> None:
    root_ca = read_root_ca(pairing, vpod, token)  # first: without it nothing is minted
    secret = fill_token_secret(token, *await mint_tokens(pairing, vpod, token), root_ca, vpod, context)
    try:
        await pairing.physical.calls.create(SECRETS, secret)
    except AlreadyExists:
        # Ours from before a crash, not yet in the cache: its token is bound to the same Pod and still good.
        live = await pairing.physical.calls.get(SECRETS, token.name, pairing.physical.mount_namespace)
        if not is_ours(live, pairing.owner) or annotations_of(live).get(names.VIRTUAL_POD_UID_ANNOTATION) != uid_of(vpod):
            raise DependencyMissing(*taken(live)) from None


def taken(live: Json) -> tuple[str, str]:
    """Return reason and message for a Secret of a stranger under the name of one of ours."""
    where = f"{namespace_of(live)}/{name_of(live)}"
    return "TokenSecretTaken", f"Secret {where} exists in the physical cluster and is not ours; the lender has to remove it"


def read_root_ca(pairing: Pairing, vpod: Json, token: TokenSecret) -> str:
    """Return the root certificate that `token` asks for, "" if it asks for none. Raises DependencyMissing without one."""
    if not token.ca_keys:
        return ""
    namespace = namespace_of(vpod)
    configmap = pairing.virtual.root_cas.store.object(ObjectKey(namespace, names.ROOT_CA_CONFIGMAP))
    if configmap is None:
        raise DependencyMissing(
            "MandatoryConfigMapNotFound",
            f"ConfigMap {namespace}/{names.ROOT_CA_CONFIGMAP} does not exist yet: the controller manager of the virtual "
            "cluster publishes it (root-ca-certificate-publisher-controller)",
        )
    return str((configmap.get("data") or {}).get("ca.crt", ""))


async def mint_tokens(pairing: Pairing, vpod: Json, token: TokenSecret) -> tuple[dict[str, str], TokenLife | None]:
    """Ask the virtual API server for every token of one Secret; return their texts by key, and how long they are good."""
    minted = await asyncio.gather(*(_mint(pairing, vpod, source) for source in token.sources))
    texts = {source.key: one.text for source, one in zip(token.sources, minted, strict=True)}
    return texts, plan_life(minted, pairing.real_time(), random())


def fill_token_secret(
    token: TokenSecret, texts: dict[str, str], life: TokenLife | None, root_ca: str, vpod: Json, context: PodContext
) -> Json:
    """Return the Secret for the physical cluster, with the life of its tokens written on it."""
    secret = build_token_secret(token, texts, root_ca, vpod, context)
    if life:
        secret["metadata"]["annotations"] |= life.annotations()
    return secret


async def _mint(pairing: Pairing, vpod: Json, source: TokenSource) -> MintedToken:
    spec: Json = {
        "audiences": [source.audience] if source.audience else [], "expirationSeconds": source.expiration_seconds,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(vpod), "uid": uid_of(vpod)},
    }
    request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
    account = vpod["spec"].get("serviceAccountName") or "default"
    try:
        answer = await pairing.virtual.calls.create(
            SERVICEACCOUNTS, request, subresource="token", name=account, namespace=namespace_of(vpod)
        )
    except NotFound as error:
        raise DependencyMissing("ServiceAccountNotFound", f"no token of ServiceAccount {account}: {error}") from error
    return read_minted(answer, source.expiration_seconds)


async def collect_token_secrets(pairing: Pairing, key: ObjectKey, living_uid: str) -> AsyncIterator[Json]:
    """Remove the token Secrets made for this name whose Pod has ended, and yield the answers; `living_uid` keeps its own."""
    # Of one from which somebody took the names nothing can be proved.
    made = pairing.physical.token_secrets.store.by_index(BY_VIRTUAL, str(key)) if all(key) else []
    # One that lost its uid to somebody may be the living Pod's.
    outlived = [entry for entry in made if entry.summary.uid != living_uid and (entry.summary.uid or not living_uid)]
    for entry in outlived:
        if await _has_ended(pairing, key, entry.summary.uid) and (answer := await _remove(pairing, entry)):
            yield answer


async def _has_ended(pairing: Pairing, key: ObjectKey, uid: str) -> bool:
    """Prove that the virtual Pod with this uid needs its token no more: gone, or finished for good."""
    if pairing.virtual.pods.was_deleted(uid):
        return True
    live = await read_virtual_pod(pairing, key)
    return live is None or uid_of(live) != uid or (live.get("status") or {}).get("phase") in TERMINAL_PHASES


async def _remove(pairing: Pairing, entry: Entry[TokenSecretHead]) -> Json | None:
    try:
        return await pairing.physical.calls.delete(SECRETS, entry.key.name, entry.key.namespace, uid=entry.uid)
    except NotFound:
        return None
