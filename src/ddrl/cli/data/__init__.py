"""``ddrl data``."""
