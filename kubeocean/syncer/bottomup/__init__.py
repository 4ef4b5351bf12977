"""Physical to virtual: nodes, their capacity and heartbeats, the status of Pods, the state of policies."""
