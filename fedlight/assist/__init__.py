"""Help around a run: whether this machine can train, a first config for one's own data, editors and shells."""
