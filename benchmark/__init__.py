"""Time and memory of a loss step, beside other implementations of the same losses."""
