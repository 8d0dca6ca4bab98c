"""ddrl."""
