"""What a run is about: its data, base model, rewards and judges."""
