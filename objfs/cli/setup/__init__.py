"""What is kept in local caches, and the configuration."""
