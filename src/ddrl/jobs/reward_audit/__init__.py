"""What ``ddrl reward audit`` does."""
