"""Files that data sets are read from."""
