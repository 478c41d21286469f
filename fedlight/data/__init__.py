"""Data of several institutions."""
