"""Entry point of the ``fedlight`` command."""

def main() -> int:
    """Runs the command line."""
    return 0
