"""One number for what we meant.

Every object we write carries `kubeocean.io/content-hash` of the content we intended. A later pass hashes what it means
now: the same hash means that nothing of it needs writing, whatever defaults the server has filled in meanwhile.
"""

from __future__ import annotations

import hashlib

import orjson

from kubeocean.kube.meta import Json


def content_hash(content: Json) -> str:
    """Return 32 hex digits that are the same for equal content, in whatever order its keys are, in every process.

    `content` is what decoding JSON gives (keys are text); the order of lists counts.
    """
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
