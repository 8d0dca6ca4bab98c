"""``ddrl reward``."""
