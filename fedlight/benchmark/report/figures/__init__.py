"""The figures of a report, one a file: data frame in, ``Picture`` out."""
