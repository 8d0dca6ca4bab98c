"""Keeps a run safe: audits, a drift budget, a guard, an inspector of rollouts."""
