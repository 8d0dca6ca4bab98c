"""What a command does, as a call: one module or package per command."""
