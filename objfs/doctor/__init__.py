"""Examinations: of this machine, of the way to a store, of the store itself, and how fast it is."""
