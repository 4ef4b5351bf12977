"""What a Pod may do with the ConfigMap `kube-root-ca.crt`, which every namespace of every cluster has.

The one in the mountNamespace holds the *lender's* root certificate. The virtual one is never copied or marked: its text
becomes a key of a Secret of ours wherever a volume wants it (`podtoken`). What cannot be served that way is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kubeocean.api.names import ROOT_CA_CONFIGMAP
from kubeocean.domain.podrefs import is_root_ca
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json

CA_KEY: Final = "ca.crt"


def check_root_ca(vpod: Json) -> Refusal | None:
    """Return a refusal that names every use of kube-root-ca.crt which cannot be served; None without one.

    In a variable: the ConfigMap of that name beside the twin holds the lender's root. A key but ca.crt: there is none, a
    kubelet would wait for it for ever.
    """
    problems = list(_root_ca_problems(vpod["spec"]))
    return _root_ca_refusal(problems) if problems else None


def check_root_ca_variables(container: Json, where: str) -> Refusal | None:
    """Return the same for the variables of one container."""
    problems = list(_in_variables(container, where))
    return _root_ca_refusal(problems) if problems else None


def _root_ca_refusal(problems: list[str]) -> Refusal:
    return Refusal(
        "FieldNotSupported",
        f"ConfigMap {ROOT_CA_CONFIGMAP} is never copied to a physical cluster; it reaches a Pod as the file {CA_KEY} of a "
        f"volume and no other way: {', '.join(problems)}. Mount it instead",
    )


def _root_ca_problems(spec: Json) -> Iterator[str]:
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _other_keys(volume, f"spec.volumes[{index}]")
        for position, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            yield from _other_keys(source, f"spec.volumes[{index}].projected.sources[{position}]")
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _in_variables(container, f"spec.{kind}[{index}]")


def _other_keys(source: Json, where: str) -> Iterator[str]:
    config = source.get("configMap")
    if config and is_root_ca(config) and not config.get("optional"):
        for item in config.get("items") or ():
            if item["key"] != CA_KEY:
                yield f"{where}.configMap (key {item['key']})"


def _in_variables(container: Json, where: str) -> Iterator[str]:
    for index, source in enumerate(container.get("envFrom") or ()):
        if is_root_ca(source.get("configMapRef")):
            yield f"{where}.envFrom[{index}].configMapRef"
    for index, variable in enumerate(container.get("env") or ()):
        if is_root_ca((variable.get("valueFrom") or {}).get("configMapKeyRef")):
            yield f"{where}.env[{index}].valueFrom.configMapKeyRef"
