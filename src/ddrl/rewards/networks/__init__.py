"""The networks of rewards, with the weights that their authors released."""
