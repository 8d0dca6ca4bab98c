"""What a prompt asks for, and whether a picture shows it (GenEval)."""
