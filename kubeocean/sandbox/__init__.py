"""Real local control planes: for trying Kubeocean out, for the demo, the integration tests and the benchmarks."""
