"""Studies: grids of runs, done in parallel, and a report of what came out."""
