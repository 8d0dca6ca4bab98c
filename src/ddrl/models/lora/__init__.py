"""LoRA: added, started from files, named and exported as other tools do."""
