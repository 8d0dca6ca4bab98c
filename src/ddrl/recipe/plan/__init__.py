"""What a recipe amounts to before anything is run: arithmetic, passes, memory."""
