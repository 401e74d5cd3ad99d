"""The exercises of the lesson on MoE (notebook 05), with the mistakes that they catch."""
