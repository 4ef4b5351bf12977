"""What the server's answer means: a failure status becomes the right class of error, with the server's own words.

The API server explains a failure in a `metav1.Status` body; something in between (a load balancer, a proxy) explains it
in HTML or not at all. Both must end in one line that a human can act on.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp

from kubeocean.kube import codec
from kubeocean.kube.errors import ApiError, Forbidden, NotFound, TooManyRequests, Unreachable, UntrustedServer, error_class
from kubeocean.kube.meta import Json

LONGEST_MESSAGE = 1024  # characters of a body that is no Status
TRANSPORT_FAILURES = (aiohttp.ClientError, OSError)  # OSError includes TimeoutError and every ssl.SSLError


def build_error(cluster: str, call: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error for an answer that is no success; `call` is the verb and path it answers."""
    answer = _status_of(body)
    reason = answer.get("reason") or ""
    details = answer.get("details") or {}
    if 300 <= status < 400:
        # A redirect would carry our credentials to a place nobody configured.
        text = f"redirected to {headers.get('Location', '?')}; redirects are not followed, correct the server URL"
    else:
        text = answer.get("message") or body[:LONGEST_MESSAGE].decode("utf-8", "replace").strip() or "no explanation"
    return error_class(status, reason)(
        f"{cluster}: {call}: {' '.join(filter(None, (str(status), reason)))}: {text}",
        cluster=cluster, status=status, reason=reason, retry_after=_retry_after(headers, details), details=details,
    )


def build_unreachable(cluster: str, call: str, failure: BaseException) -> Unreachable:
    """Return the error for a call that got no answer; a certificate that cannot be trusted has its own class."""
    text = str(failure) or type(failure).__name__
    if isinstance(failure, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return UntrustedServer(
            f"{cluster}: {call}: {text}; check certificate-authority-data (and tls-server-name) in the kubeconfig",
            cluster=cluster,
        )
    return Unreachable(f"{cluster}: {call}: {text}", cluster=cluster)


def proves_absence(error: NotFound) -> bool:
    """Tell whether the API server itself says that this *object* is not there.

    A 404 without a Status of reason NotFound comes from an unknown path (a CRD that is not installed) or from something
    in between, and proves nothing about the object.
    """
    return error.reason == "NotFound" and bool(error.details.get("name"))


def blocked_by_disruption_budget(error: TooManyRequests) -> bool:
    """Tell a 429 of the Eviction API (a PodDisruptionBudget says no) from one of flow control.

    Kubernetes says so in details.causes with reason DisruptionBudget (policy/v1 eviction).
    """
    return _has_cause(error, "DisruptionBudget")


def forbidden_by_terminating_namespace(error: Forbidden) -> bool:
    """Tell a 403 of admission (nothing may be created in a namespace that is being deleted) from one of RBAC.

    Kubernetes says so in details.causes with reason NamespaceTerminating (NamespaceLifecycle admission).
    """
    return _has_cause(error, "NamespaceTerminating")


def _has_cause(error: ApiError, reason: str) -> bool:
    causes = error.details.get("causes")
    return isinstance(causes, list) and any(isinstance(cause, dict) and cause.get("reason") == reason for cause in causes)


def _status_of(body: bytes) -> Json:
    """Return the Status in `body`, or {}: what we make of it must not depend on who answered."""
    try:
        answer = codec.decode(body)
    except ValueError:
        return {}
    if not isinstance(answer.get("details"), dict | None):
        return {}
    return answer if all(isinstance(answer.get(key), str | None) for key in ("reason", "message")) else {}


def _retry_after(headers: Mapping[str, str], details: Json) -> float | None:
    """Return seconds; HTTP also allows a date there, which the API server never sends."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    seconds = details.get("retryAfterSeconds")
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else None
