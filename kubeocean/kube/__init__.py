"""Kubernetes machinery that knows nothing of Kubeocean: plain dicts in, plain dicts out."""
