"""What ``ddrl evaluate`` does, and the audits of a run in training."""
