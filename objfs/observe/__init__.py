"""Counting at the edges: plain counters, cheap enough for every request. Knows nothing of the other rooms."""
