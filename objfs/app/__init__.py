"""Composition root: builds the parts of a mount, runs them, and lets them go in the right order."""
