"""The rewards that come with ddrl, one file each."""
