"""The driver protocol, its values, its registry and its wrappers."""
