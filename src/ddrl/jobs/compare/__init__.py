"""What ``ddrl compare`` does."""
