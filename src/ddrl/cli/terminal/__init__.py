"""What the commands share: output, streams, progress, signals, locks, options."""
