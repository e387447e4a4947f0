"""The files of instances on disk: written under a temporary name, then durable under their final name."""
