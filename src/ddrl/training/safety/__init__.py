"""What keeps a run safe: audits, a drift budget, a guard."""
