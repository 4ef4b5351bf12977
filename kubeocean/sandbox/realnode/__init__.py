"""Real kubelets with containerd, each on a little machine of its own: a network namespace, a mount namespace, a cgroup."""
