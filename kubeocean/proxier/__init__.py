"""The kubelet API of a binding's virtual nodes."""
