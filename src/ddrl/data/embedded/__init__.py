"""The data that comes with ddrl: digits, moving digits, words."""
