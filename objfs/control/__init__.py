"""How other programs ask a running mount: a unix socket that speaks lines of JSON, and its values."""
