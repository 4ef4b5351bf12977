"""The token Secret of a twin that the Go project made: which it is, and under which keys it holds what.

A twin that runs cannot be given other volumes, so its files are renewed where it mounts them: in the Secret that it names,
under the keys that it projects. Which file is which say the paths, for those are the user's: the same in the virtual Pod, in
the twin we would forge, and in the one that runs. Of a twin that we forged ourselves nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from kubeocean.api import names
from kubeocean.domain.adoption import is_unowned
from kubeocean.domain.podtoken import TokenSecret
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of, uid_of


class _File(NamedTuple):
    path: str
    secret: str
    key: str


def as_mounted(token: TokenSecret, forged: Json, twin: Json) -> TokenSecret | None:
    """Return `token` by the name and keys under which `twin` mounts it; None when it mounts nothing of it from one Secret.

    `forged` is the twin as we would make it. What the twin has from elsewhere is left out.
    """
    own_keys = (*(source.key for source in token.sources), *token.ca_keys, *token.namespace_keys)
    meant = {file.path: file.key for file in _files(forged, token.volume, own_keys) if file.secret == token.name}
    files = list(_files(twin, token.volume, meant))
    mounted = [file for file in files if file.path in meant]
    secrets = {file.secret for file in mounted}
    if len(secrets) != 1:
        return None
    (name,) = secrets
    if any(file.secret == name and file.path not in meant for file in files):
        return None  # it holds something of which we do not know what it is
    keys: dict[str, list[str]] = {}
    for file in mounted:
        keys.setdefault(meant[file.path], []).append(file.key)
    return replace(
        token, name=name, sources=tuple(replace(each, key=keys[each.key][0]) for each in token.sources if each.key in keys),
        ca_keys=_renamed(token.ca_keys, keys), namespace_keys=_renamed(token.namespace_keys, keys),
    )


def may_adopt_token_secret(live: Json, vpod: Json) -> bool:
    """Tell whether a token Secret which the twin of `vpod` mounts is nobody's yet, and not told to be another Pod's."""
    told = annotations_of(live).get(names.VIRTUAL_POD_UID_ANNOTATION, "")
    marked = labels_of(live).get(names.SERVICE_ACCOUNT_TOKEN_LABEL) == "true"
    return is_unowned(live) and marked and not is_deleting(live) and told in ("", uid_of(vpod))


def _renamed(mine: tuple[str, ...], keys: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(theirs for key in mine for theirs in keys.get(key, ())))


def _files(pod: Json, volume: str, implied: Iterable[str]) -> Iterator[_File]:
    """Yield the files that a volume of a Pod has from Secrets. Without items each key is a file; `implied` are taken to be."""
    found: Json = next((each for each in pod["spec"].get("volumes") or () if each["name"] == volume), {})
    if plain := found.get("secret"):
        yield from _items(plain.get("secretName") or "", plain, implied)
    for source in (found.get("projected") or {}).get("sources") or ():
        if secret := source.get("secret"):
            yield from _items(secret.get("name") or "", secret, implied)


def _items(name: str, secret: Json, implied: Iterable[str]) -> Iterator[_File]:
    for item in secret.get("items") or [{"key": key, "path": key} for key in implied]:
        yield _File(item["path"], name, item["key"])
