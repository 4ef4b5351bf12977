"""The decisions of Kubeocean: pure functions on plain dicts, without clock, I/O or tasks."""
