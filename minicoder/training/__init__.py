"""Pre-training, its optimizer and schedule, and the extension of the context."""
