"""Looking at runs from another terminal: what their folders say, side by side, and as they grow. Needs no torch."""
