"""What keeps a site's contribution from those who need not know it."""
