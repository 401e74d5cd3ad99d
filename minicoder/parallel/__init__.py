"""The same training on more processes, or in less memory, from outside of the model."""
