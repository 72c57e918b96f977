"""Studies of runs that other code trained and scored: their files read, held against each other, and kept as records."""
