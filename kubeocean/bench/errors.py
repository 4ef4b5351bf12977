"""Why a benchmark gave no figures."""

from __future__ import annotations


class BenchError(Exception):
    """A figure could not be measured; the message is one for the user and says what was waited for."""
