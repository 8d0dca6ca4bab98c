"""Rewards and judges of the data that comes with ddrl."""
