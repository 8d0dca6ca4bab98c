"""A pipeline's files: configs, weights, the hub, and what may be wrong with them."""
