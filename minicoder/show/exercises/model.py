"""The exercises of the lesson on the model (notebook 06), with the mistakes that they catch."""
