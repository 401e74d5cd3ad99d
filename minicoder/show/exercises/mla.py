"""The exercises of the lesson on MLA (notebook 04), with the mistakes that they catch."""
