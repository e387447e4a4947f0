"""Files of instances on disk: partial while they arrive, then durable under their names."""
