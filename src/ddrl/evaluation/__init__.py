"""What a trained model became: its samples, its distance from real data, and the verdict."""
