"""The report of a conversion, as pages to look at."""
