"""The corpus by many tasks: the rules of `minicoder.data` on the engine datatrove."""
