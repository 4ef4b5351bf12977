"""Kubeocean joins many physical Kubernetes clusters into one virtual cluster, under leasing policies."""

__version__ = "0.1.0"
