"""The families of diffusers models that ddrl trains, one file each."""
