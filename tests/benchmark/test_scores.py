"""Results come back from disk as they were written, and what does not belong together is refused."""
