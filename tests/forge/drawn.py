"""Pods as users may write them, drawn so that an API server accepts every one, with every field of the tables in some of them.

What the server holds of its own accord against a field (feature gates that are off by default, RuntimeClasses that must exist,
fields that admission writes) is left out here; the golden pairs have it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from kubeocean.domain.fieldrules import Treatment
from kubeocean.domain.podfields import CLOSED, TABLES
from kubeocean.kube.meta import Json

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whole Pods take their time
Fields = st.SearchStrategy[Json]
NAMES = st.sampled_from(["a", "settings", "tls-2", "registry.example.com", "x" * 63])
PORTS = st.integers(1, 65535)
MODES = st.sampled_from([0o400, 0o440, 0o644])
TEXTS = st.sampled_from(["", "plain", "two\nlines", "$(A) $$(B)", "é ü", "x" * 300])
SECONDS = st.integers(1, 600)
ENV_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['app']", "metadata.annotations['note']",
    "metadata.labels['kubeocean.io/workload-name']", "metadata.annotations['kubeocean.io/owner']", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)
FILE_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations", "metadata.labels['app']",
    "metadata.annotations['note']",
)
RESOURCE_REFS: tuple[dict[str, str], ...] = (
    {"resource": "limits.cpu", "divisor": "1m"}, {"resource": "requests.memory", "divisor": "1Mi"},
)
AMOUNTS = {"cpu": ("100m", "1"), "memory": ("64Mi", "1Gi"), "ephemeral-storage": ("1Mi", "1Gi")}


def maybe(required: dict[str, Any] | None = None, /, **optional: Any) -> Fields:
    """Return objects that have some of the optional fields."""
    return st.fixed_dictionaries(required or {}, optional=optional)


def numbered(strategy: Fields, name: Callable[[int], Json], most: int = 3) -> st.SearchStrategy[list[Json]]:
    """Return lists of what `strategy` draws, with `name` added so that no two are called alike."""
    return st.lists(strategy, min_size=1, max_size=most).map(
        lambda drawn: [each | name(index) for index, each in enumerate(drawn)]
    )


def one_of_fields(**fields: st.SearchStrategy[Any]) -> Fields:
    """Return objects with exactly one of the fields."""
    return st.one_of(*(st.fixed_dictionaries({field: strategy}) for field, strategy in fields.items()))


OPTIONAL_NAME = maybe({"name": NAMES}, optional=st.booleans())
KEY_REF = maybe({"name": NAMES, "key": st.just("a")}, optional=st.booleans())
ENV = numbered(
    maybe(value=TEXTS) | st.fixed_dictionaries({
        "valueFrom": one_of_fields(
            fieldRef=maybe({"fieldPath": st.sampled_from(ENV_PATHS)}, apiVersion=st.just("v1")),
            resourceFieldRef=st.sampled_from(RESOURCE_REFS), configMapKeyRef=KEY_REF, secretKeyRef=KEY_REF,
        ),
    }),
    lambda index: {"name": ("A", "KUBERNETES_SERVICE_HOST", "HOSTNAME")[index]},
)
ENV_FROM = st.lists(
    one_of_fields(configMapRef=OPTIONAL_NAME, secretRef=OPTIONAL_NAME) | st.fixed_dictionaries({
        "prefix": st.just("P_"), "configMapRef": OPTIONAL_NAME,
    }), max_size=2,
)
HTTP = maybe(
    {"port": PORTS}, path=st.just("/"), scheme=st.sampled_from(["HTTP", "HTTPS"]),
    httpHeaders=st.just([{"name": "A", "value": "b"}]),
)
EXEC = st.just({"command": ["true"]})
HANDLERS: dict[str, Fields] = {"exec": EXEC, "httpGet": HTTP, "tcpSocket": st.fixed_dictionaries({"port": PORTS})}
HOOK = one_of_fields(**HANDLERS, sleep=st.just({"seconds": 1}))
TIMES = dict.fromkeys(("failureThreshold", "initialDelaySeconds", "periodSeconds", "timeoutSeconds"), SECONDS)
GRPC = maybe({"port": PORTS}, service=st.just("health"))


def probe(**more: st.SearchStrategy[Any]) -> Fields:
    return st.builds(lambda handler, times: handler | times, one_of_fields(**HANDLERS, grpc=GRPC), maybe(**TIMES, **more))


PROBED = {
    "livenessProbe": probe(terminationGracePeriodSeconds=SECONDS), "startupProbe": probe(),
    "readinessProbe": probe(successThreshold=SECONDS), "lifecycle": maybe(postStart=HOOK, preStop=HOOK),
}
PROFILE = st.sampled_from([{"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "p"}])
SELINUX = maybe(level=st.just("s0"), type=st.just("container_t"))
IDENTITY = {
    "runAsUser": st.sampled_from([0, 1000]), "runAsGroup": st.sampled_from([0, 1000]), "runAsNonRoot": st.booleans(),
    "seLinuxOptions": SELINUX, "seccompProfile": PROFILE, "appArmorProfile": PROFILE,
}
CONTAINER_SECURITY = maybe(
    **IDENTITY, allowPrivilegeEscalation=st.booleans(), readOnlyRootFilesystem=st.booleans(), privileged=st.just(False),
    procMount=st.just("Default"), capabilities=maybe(add=st.just(["NET_BIND_SERVICE"]), drop=st.just(["ALL"])),
)
POD_SECURITY = maybe(
    **IDENTITY, fsGroup=st.just(2000), fsGroupChangePolicy=st.sampled_from(["OnRootMismatch", "Always"]),
    supplementalGroups=st.just([3000]), supplementalGroupsPolicy=st.just("Merge"),
    sysctls=st.just([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
)
RESOURCES = maybe(
    requests=maybe(**{name: st.just(low) for name, (low, _) in AMOUNTS.items()}),
    limits=maybe(**{name: st.just(high) for name, (_, high) in AMOUNTS.items()}),
)
CONTAINER: dict[str, st.SearchStrategy[Any]] = {
    "args": st.just(["-g", "$(A)"]), "command": st.just(["true"]), "env": ENV, "envFrom": ENV_FROM,
    "imagePullPolicy": st.sampled_from(["Always", "IfNotPresent", "Never"]), "resources": RESOURCES,
    "ports": numbered(maybe({"protocol": st.sampled_from(["TCP", "UDP"])}), lambda index: {"containerPort": 80 + index}),
    "resizePolicy": st.just([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]), "securityContext": CONTAINER_SECURITY,
    "stdin": st.booleans(), "stdinOnce": st.booleans(), "tty": st.booleans(), "terminationMessagePath": st.just("/dev/log"),
    "terminationMessagePolicy": st.sampled_from(["File", "FallbackToLogsOnError"]), "workingDir": st.just("/srv"),
}
ITEMS = numbered(maybe({"key": st.just("a")}, mode=MODES), lambda index: {"path": f"keys/{index}"})
READ_ONLY = {"readOnly": st.booleans(), "fsType": st.just("ext4")}
FIELD_ITEM = maybe({"fieldRef": maybe({"fieldPath": st.sampled_from(FILE_PATHS)}, apiVersion=st.just("v1"))}, mode=MODES)
RESOURCE_ITEM = st.sampled_from([{"resourceFieldRef": ref | {"containerName": "c0"}} for ref in RESOURCE_REFS])
FILES = numbered(FIELD_ITEM | RESOURCE_ITEM, lambda index: {"path": f"fields/{index}"})
ROOT_CA = st.just({"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]})
PROJECTIONS = (
    st.fixed_dictionaries({"serviceAccountToken": maybe(
        {"path": st.just("token")}, audience=st.just("vault"), expirationSeconds=st.just(600),
    )}),
    st.fixed_dictionaries({"configMap": ROOT_CA}),
    st.fixed_dictionaries({"configMap": maybe({"name": NAMES}, optional=st.booleans(), items=ITEMS)}),
    st.fixed_dictionaries({"secret": maybe({"name": NAMES}, optional=st.booleans())}),
    st.fixed_dictionaries({"downwardAPI": st.fixed_dictionaries({"items": FILES})}),
)
TEMPLATE = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
SOURCES = {
    "awsElasticBlockStore": maybe({"volumeID": NAMES}, **READ_ONLY, partition=st.just(1)),
    "azureDisk": st.just({"diskName": "d", "diskURI": "/subscriptions/x/disks/d", "kind": "Managed"}),
    "azureFile": maybe({"secretName": NAMES, "shareName": st.just("s")}, readOnly=st.booleans()),
    "cinder": maybe({"volumeID": NAMES}, **READ_ONLY, secretRef=st.fixed_dictionaries({"name": NAMES})),
    "configMap": maybe({"name": NAMES}, optional=st.booleans(), defaultMode=MODES, items=ITEMS) | ROOT_CA,
    "csi": maybe(
        {"driver": st.just("a.example.com")}, **READ_ONLY, volumeAttributes=st.just({"a": "b"}),
        nodePublishSecretRef=st.fixed_dictionaries({"name": NAMES}),
    ),
    "downwardAPI": maybe({"items": FILES}, defaultMode=MODES),
    "emptyDir": maybe(medium=st.sampled_from(["", "Memory"]), sizeLimit=st.just("1Gi")),
    "ephemeral": st.just({"volumeClaimTemplate": TEMPLATE}),
    "fc": maybe({"targetWWNs": st.just(["50060e801049cfd1"]), "lun": st.just(0)}, **READ_ONLY),
    "flexVolume": maybe({"driver": st.just("a/b")}, **READ_ONLY, secretRef=st.fixed_dictionaries({"name": NAMES})),
    "gcePersistentDisk": maybe({"pdName": NAMES}, **READ_ONLY, partition=st.just(1)),
    "iscsi": maybe(
        {"targetPortal": st.just("10.0.0.1:3260"), "iqn": st.just("iqn.2001-04.com.example:a"), "lun": st.just(0)}, **READ_ONLY,
        secretRef=st.fixed_dictionaries({"name": NAMES}),
    ),
    "nfs": maybe({"server": NAMES, "path": st.just("/x")}, readOnly=st.booleans()),
    "persistentVolumeClaim": maybe({"claimName": NAMES}, readOnly=st.booleans()),
    "portworxVolume": maybe({"volumeID": NAMES}, **READ_ONLY),
    "projected": maybe(
        {"sources": st.lists(st.sampled_from(range(len(PROJECTIONS))), unique=True, max_size=len(PROJECTIONS)).flatmap(
            lambda chosen: st.tuples(*(PROJECTIONS[index] for index in chosen)).map(list)
        )}, defaultMode=MODES,
    ),
    "secret": maybe({"secretName": NAMES}, optional=st.booleans(), defaultMode=MODES, items=ITEMS),
    "vsphereVolume": maybe({"volumePath": NAMES}, fsType=st.just("ext4")),
}
NOT_CARRIED = {
    "affinity": st.just({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
    ]}}),
    "nodeSelector": st.just({"disk": "ssd"}), "readinessGates": st.just([{"conditionType": "example.com/lb"}]),
    "schedulerName": st.just("fancy"),
    "topologySpreadConstraints": st.just([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
}
POD: dict[str, st.SearchStrategy[Any]] = {
    "activeDeadlineSeconds": SECONDS, "automountServiceAccountToken": st.booleans(), "enableServiceLinks": st.booleans(),
    "dnsPolicy": st.sampled_from(["ClusterFirst", "ClusterFirstWithHostNet", "Default"]),
    "dnsConfig": maybe(
        nameservers=st.just(["1.1.1.1", "8.8.8.8"]), searches=st.just(["example.com"]),
        options=st.just([{"name": "ndots", "value": "2"}, {"name": "edns0"}]),
    ),
    "hostAliases": st.just([{"ip": "10.1.1.1", "hostnames": ["db"]}]), "hostUsers": st.just(True), "hostname": st.just("db"),
    "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2, unique_by=lambda ref: str(ref["name"])),
    "os": st.just({"name": "linux"}), "resources": st.just({"requests": {"cpu": "16"}, "limits": {"cpu": "32"}}),
    "restartPolicy": st.sampled_from(["Always", "OnFailure", "Never"]), "securityContext": POD_SECURITY,
    "setHostnameAsFQDN": st.booleans(), "shareProcessNamespace": st.booleans(), "subdomain": st.just("db-svc"),
    "terminationGracePeriodSeconds": st.integers(2, 60),
    "tolerations": st.lists(st.sampled_from([
        {"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
    ]), max_size=3),
    **NOT_CARRIED,
}
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["note", "example.com/x", "kubeocean.io/owner", "kubectl.kubernetes.io/last-applied-configuration"]), TEXTS,
)
LABELS = st.dictionaries(
    st.sampled_from(["app", "example.com/tier", "kubeocean.io/workload-name"]), st.sampled_from(["", "web", "A.b_c"]),
)
PRIVILEGES = {"hostPID": st.booleans(), "hostIPC": st.booleans(), "hostNetwork": st.booleans()}


@st.composite
def pods(draw: st.DrawFn, *, privileged: bool = False) -> Json:
    """Draw a Pod; a `privileged` one may have what only allowPrivileged lets in."""
    sources = dict(SOURCES)
    spec = draw(maybe(**POD, **(PRIVILEGES if privileged else {})))
    if privileged:
        sources["hostPath"] = maybe({"path": st.just("/var/log")}, type=st.just("Directory"))
    kinds = draw(st.lists(st.sampled_from(sorted(sources)), max_size=5))
    spec["volumes"] = [{"name": f"v{index}", kind: draw(sources[kind])} for index, kind in enumerate(kinds)]
    spec["containers"] = [
        draw(container(f"c{index}", spec["volumes"], PROBED, privileged=privileged)) for index in range(draw(st.integers(1, 2)))
    ]
    inits = container("init", spec["volumes"], {}) | container("init", spec["volumes"], PROBED).map(sidecar)
    spec["initContainers"] = draw(st.lists(inits, max_size=1))
    reconcile_with_host(spec)
    metadata: Json = {"name": draw(st.sampled_from(["web-0", "w.x", "w" * 63])), "namespace": "shop", "uid": "v-1"}
    metadata |= {"labels": draw(LABELS), "annotations": draw(ANNOTATIONS)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec | {"nodeName": "vnode-edge-node-7"}}


def sidecar(drawn: Json) -> Json:
    return drawn | {"restartPolicy": "Always"}


def reconcile_with_host(spec: Json) -> None:
    """Take away what the API server allows to no Pod in the host's namespaces."""
    if spec.get("hostPID"):
        spec.pop("shareProcessNamespace", None)
    if spec.get("hostNetwork"):
        spec.get("securityContext", {}).pop("sysctls", None)
        for each in spec["containers"] + spec["initContainers"]:
            each.pop("ports", None)


@st.composite
def container(
    draw: st.DrawFn, name: str, volumes: list[Json], more: dict[str, st.SearchStrategy[Any]], *, privileged: bool = False
) -> Json:
    """Draw a container that mounts some of the volumes."""
    drawn: Json = {"name": name, "image": "busybox"} | draw(maybe(**CONTAINER, **more))
    mounts = []
    for index, volume in enumerate(volumes):
        where = {"name": volume["name"], "mountPath": f"/mnt/{index}"}
        mounts.append(where | draw(maybe(readOnly=st.booleans()) | one_of_fields(
            subPath=st.just("a"), subPathExpr=st.just("$(A)"), mountPropagation=st.just("HostToContainer"),
        )))
    if mounts:
        drawn["volumeMounts"] = mounts
    if privileged and draw(st.booleans()):
        drawn["securityContext"] = {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}}
    return drawn


def fields_of(value: Any, table: str, where: str) -> Iterable[tuple[str, str, str]]:
    """Yield (table, field, path) for everything in an object that the tables can speak of, known to them or not."""
    for element in value if isinstance(value, list) else [value]:
        for field, item in (element or {}).items():
            yield table, field, f"{where}.{field}"
            rule = TABLES[table].get(field)
            if rule and rule.of:
                yield from fields_of(item, rule.of, f"{where}.{field}")


def with_unknown_fields(value: Any, table: str) -> Any:
    """Return a copy with one more field in every object at every depth, but where an unknown field gets a Pod refused."""
    if isinstance(value, list):
        return [with_unknown_fields(element, table) for element in value]
    if value is None:
        return None
    copied = {
        field: with_unknown_fields(item, rule.of) if (rule := TABLES[table].get(field)) and rule.of else item
        for field, item in value.items()
    }
    return copied if table in CLOSED else copied | {"futureField": {"secretRef": {"name": "lenders"}}}


CARRIED = (Treatment.KEEP, Treatment.RENAME, Treatment.REWRITE)
