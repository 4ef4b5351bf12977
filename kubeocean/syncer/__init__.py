"""The syncer of one binding: bottom-up (nodes, capacity, status) and top-down (Pods and what they need)."""
