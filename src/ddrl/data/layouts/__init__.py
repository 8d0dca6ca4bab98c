"""How data sets are laid out on disk and on the hub: their samples, not decoded."""
