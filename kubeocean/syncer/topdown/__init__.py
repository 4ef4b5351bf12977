"""Virtual to physical: the twin of every bound Pod, and what it cannot start without."""
