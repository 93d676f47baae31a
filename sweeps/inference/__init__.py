"""What the numbers of a sweep can support: intervals, tests, selection, equivalence."""
