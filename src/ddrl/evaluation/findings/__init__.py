"""What the numbers mean: signs, verdicts, differences."""
