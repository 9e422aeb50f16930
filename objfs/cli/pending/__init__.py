"""Changes that are not in the store yet, or lost against others."""
