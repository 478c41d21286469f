"""The report of a benchmark, from results on disk to a page that can be read anywhere; needs the extra ``report``."""
