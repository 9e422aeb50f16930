"""Drivers: one module per kind of store, found by entry points."""
