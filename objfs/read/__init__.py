"""Reading: which bytes to fetch, one fetch per block, buffers out of one budget."""
