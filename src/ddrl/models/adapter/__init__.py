"""What every adapter of a pipeline shares, and adapters of a user's own."""
