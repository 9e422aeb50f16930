"""Mounts: making, showing, changing and ending them."""
