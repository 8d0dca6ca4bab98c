"""Rewards served on Ray Serve."""
