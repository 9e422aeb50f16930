"""How files are stored: rules, expiry, checks of what the store has."""
