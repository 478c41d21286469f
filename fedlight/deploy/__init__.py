"""Federations over a network: the two halves of a Flower app, what is warm at a site, and kits to start them with.

Nothing is imported here: the process that Flower starts at a site for every message must be small.
"""
