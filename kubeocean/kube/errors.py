"""What can go wrong between us and an API server: only what somebody handles differently has a class.

`KubeError` is the root. `ApiError` is an answer of the server (its subclasses are picked by status and reason),
`Unreachable` is the lack of one. Every message names cluster, verb and path, so a log line explains itself.
"""

from __future__ import annotations


class KubeError(Exception):
    """Something between us and a cluster failed; `cluster` says which one."""

    def __init__(self, message: str, *, cluster: str = "") -> None:
        super().__init__(message)
        self.cluster = cluster


class ConfigError(KubeError):
    """A kubeconfig cannot be used; the message names the field and the remedy, never the secret."""


class Unreachable(KubeError):
    """No answer: refused, reset, timed out or TLS failed. Whether a write took effect is unknown."""


class UntrustedServer(Unreachable):
    """The server's certificate is not signed by the configured CA, or is for another name."""


class NotLeading(KubeError):
    """A mutating call was not sent, because leadership could not be proved at that moment."""


class ApiError(KubeError):
    """The server answered with a failure: `status` and `reason` are its own, `retry_after` is in seconds."""

    def __init__(
        self, message: str, *, cluster: str = "", status: int = 0, reason: str = "", retry_after: float | None = None,
        details: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, cluster=cluster)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.details = details or {}


class BadRequest(ApiError):
    """400: the request itself is wrong."""


class Unauthorized(ApiError):
    """401: the credentials are not (or no longer) accepted."""


class Forbidden(ApiError):
    """403: authenticated, but RBAC, quota or admission says no."""


class NotFound(ApiError):
    """404: the object (or the whole resource) is not there."""


class Conflict(ApiError):
    """409: a precondition (resourceVersion, uid) no longer holds."""


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class Invalid(ApiError):
    """422: the object is refused by validation."""


class TooManyRequests(ApiError):
    """429: try again after `retry_after` seconds."""


class ServerError(ApiError):
    """5xx: the server is in trouble; the call may be repeated."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid,
    429: TooManyRequests,
}


def error_class(status: int, reason: str) -> type[ApiError]:
    """Return the class for an answer of the server."""
    if reason == "AlreadyExists":
        return AlreadyExists
    if reason == "Expired":
        return Gone
    return _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
