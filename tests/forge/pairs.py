"""The golden pairs of mapping: NAME.input.yaml -> NAME.output.yaml in tests/unit/domain/podmap.

Input: `pod`, or only what differs from the minimal Pod below (`metadata`, `spec`, `container` = of its one container), and
`context`. With `ephemeral` a container is mapped for the twin's subresource instead.

Output: `refusal`, or `twin`, which tells the difference to the twin of the minimal Pod (that one's own pair shows it whole):
what is missing from it is null, and of `env` only variables stand there that the minimal Pod's twin has not. `tokens` are
the Secrets that must be there first.
"""

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from kubeocean.api import names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podmap import ForgedPod, PodContext, Surroundings, build_physical_pod, map_ephemeral_container
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json

FOLDER = Path(__file__).parent.parent / "unit" / "domain" / "podmap"
INPUTS = sorted(FOLDER.glob("*.input.yaml"))
CONTEXT = PodContext(
    owner=Owner("virtual-uid", "edge"), cluster_id="edge", mount_namespace="lent", physical_node="node-7",
    direct_scheduling=False, allow_privileged=False, priority_class="kubeocean-default", workload=("pod", "web-0"),
)
MINIMAL: Json = {
    "metadata": {"name": "web-0", "namespace": "shop", "uid": "v-1"},
    "spec": {"nodeName": "vnode-edge-node-7", "containers": [{"name": "app", "image": "nginx:1.29"}]},
}
WHOLE = "a-minimal-pod-gets-a-name-an-owner-and-a-node"


def title(path: Path) -> str:
    """Return the sentence a pair is called by."""
    return path.name.split(".")[0]


def read(path: Path) -> Json:
    """Return a situation with its whole Pod."""
    situation: Json = yaml.safe_load(path.read_text())
    if "pod" not in situation:
        pod = deepcopy(MINIMAL)
        pod["metadata"] |= situation.pop("metadata", {})
        pod["spec"] |= situation.pop("spec", {})
        pod["spec"]["containers"][0] |= situation.pop("container", {})
        situation["pod"] = pod
    return situation


def expected(path: Path) -> Json:
    """Return the other half of the pair."""
    other: Json = yaml.safe_load(path.with_name(path.name.replace("input", "output")).read_text())
    return other


def context(changes: Json) -> PodContext:
    """Return the usual context with `changes` as YAML tells them."""
    if "surroundings" in changes:
        surroundings = dict(changes["surroundings"])
        if aliases := surroundings.pop("host_aliases", None):
            surroundings["host_aliases"] = tuple((ip, tuple(hostnames)) for ip, hostnames in aliases)
        changes = changes | {"surroundings": Surroundings(**surroundings)}
    if "workload" in changes:
        changes = changes | {"workload": tuple(changes["workload"])}
    return replace(CONTEXT, **changes)


def forge(situation: Json) -> Json:
    """Return what becomes of a situation, as the other half of its pair tells it."""
    around = context(situation.get("context") or {})
    if ephemeral := situation.get("ephemeral"):
        mapped = map_ephemeral_container(situation["pod"], ephemeral, around)
        return {"refusal": asdict(mapped)} if isinstance(mapped, Refusal) else {"ephemeral": with_own_env(plain(mapped))}
    forged = build_physical_pod(situation["pod"], around)
    if isinstance(forged, Refusal):
        return {"refusal": asdict(forged)}
    twin = difference(USUAL, shown(forged)) or {}
    return {"twin": twin} | ({"tokens": [plain(asdict(token)) for token in forged.tokens]} if forged.tokens else {})


def shown(forged: ForgedPod) -> Json:
    """Return a twin without the two annotations that only a machine can read."""
    pod = plain(forged.pod)
    for annotation in (names.EXPECTED_METADATA_ANNOTATION, names.CONTENT_HASH_ANNOTATION):
        assert pod["metadata"]["annotations"].pop(annotation)
    return pod


def plain(obj: Json) -> Json:
    """Return a copy as JSON has it."""
    return dict(orjson.loads(orjson.dumps(obj)))


def difference(usual: Any, found: Any) -> Any:
    """Return what `found` has otherwise than `usual`, None when nothing; lists differ as a whole, but see the module's text."""
    if not (isinstance(usual, dict) and isinstance(found, dict)):
        return None if usual == found else found
    told: Json = {}
    for key, value in found.items():
        if key in ("containers", "initContainers"):
            value = [with_own_env(container) for container in value]
            if value != [with_own_env(container) for container in usual.get(key, ())]:
                told[key] = value
        elif key not in usual:
            told[key] = value
        elif (different := difference(usual[key], value)) is not None:
            told[key] = different
    told |= {key: None for key in usual if key not in found}
    return told or None


def with_own_env(container: Json) -> Json:
    """Return a container whose env has only what the minimal Pod's twin has not; what is missing is said to be null."""
    usual = {variable["name"]: variable for variable in USUAL["spec"]["containers"][0]["env"]}
    there = {variable["name"] for variable in container["env"]}
    env = [variable for variable in container["env"] if usual.get(variable["name"]) != variable]
    env += [{"name": name, "value": None} for name in usual if name not in there]
    rest = {key: value for key, value in container.items() if key != "env"}
    return rest | ({"env": env} if env else {})


def _usual() -> Json:
    forged = build_physical_pod(MINIMAL, CONTEXT)
    assert isinstance(forged, ForgedPod)
    return shown(forged)


USUAL = _usual()
