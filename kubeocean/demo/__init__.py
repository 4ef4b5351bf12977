"""A guided run on real control planes in which every step is observed before the next one is told."""
