"""Rewards of a batch: called, retried, cached, combined."""
