"""Measures what federating Pods costs, against the least it could cost on the same machine in the same run."""
