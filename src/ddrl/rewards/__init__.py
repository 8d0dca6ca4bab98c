"""Rewards: what a policy is trained for, how they are run, and what becomes of failures."""
