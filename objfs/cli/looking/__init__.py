"""What a mount or a store does: figures, traces, examinations, measurements."""
