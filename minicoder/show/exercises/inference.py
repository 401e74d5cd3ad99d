"""The exercises of the lesson on inference (notebook 13), with the mistakes that they catch."""
