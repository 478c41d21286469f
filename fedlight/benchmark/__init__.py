"""The leave-one-site-out protocol: every institution held out in turn, for every arm and seed, and what it shows.

Nothing is imported here: reading results needs pandas (the extra ``report``) and no torch, running jobs the reverse.
"""
