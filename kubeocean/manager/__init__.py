"""The manager: watches bindings, validates and connects them, starts their syncers, keeps their conditions true."""
