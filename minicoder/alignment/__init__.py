"""From a base model to one that answers: SFT, feedback, reward model, GRPO (§3.5)."""
