"""The model of DeepSeek-Coder-V2: MLA, DeepSeekMoE, RoPE and YaRN (paper §3.2)."""
