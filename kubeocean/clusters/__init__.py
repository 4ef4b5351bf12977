"""A cluster as we hold it: clients, informers and health, started and stopped as a unit."""
