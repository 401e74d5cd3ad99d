"""What the model can do, counted: compression, infilling, needles, programs."""
