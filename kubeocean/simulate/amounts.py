"""Amounts as people say them: cores, GiB, pieces."""

from __future__ import annotations

from kubeocean.kube.quantity import Quantity

GIB = 2**30


def is_bytes(resource: str) -> bool:
    """Tell whether a resource is counted in bytes."""
    return resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-")


def unit(resource: str) -> str:
    """Return what one of a resource is called; "" for mere pieces."""
    if resource == "cpu":
        return "cores"
    return "GiB" if is_bytes(resource) else ""


def value(resource: str, amount: Quantity) -> float:
    """Return an amount in `unit`s, for display only."""
    return amount.nano / 1e9 / (GIB if is_bytes(resource) else 1)


def number(amount: float) -> str:
    """Return a number with as many digits as help: 0.25, 7.5, 1,024."""
    if amount == 0 or abs(amount - round(amount)) < 0.005:
        return f"{round(amount):,}"
    digits = 2 if abs(amount) < 10 else 1 if abs(amount) < 1000 else 0
    text = f"{amount:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show(resource: str, amount: Quantity) -> str:
    """Return an amount with its unit: 7.5 cores, 32 GiB, 3 nvidia.com/gpu."""
    return f"{number(value(resource, amount))} {unit(resource) or resource}"


def show_under(resource: str, amount: Quantity) -> str:
    """Return the same for a column that is headed by the resource: pieces need no unit there."""
    return " ".join(filter(None, (number(value(resource, amount)), unit(resource))))
