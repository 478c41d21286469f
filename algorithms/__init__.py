"""The algorithms that come with fedlight, one self-contained file each."""
