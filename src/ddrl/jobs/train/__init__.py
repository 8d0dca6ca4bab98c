"""What ``ddrl train`` does."""
