"""Rewards that learned from people's preferences."""
