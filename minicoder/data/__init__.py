"""From files on this machine to packed token rows (DeepSeek-Coder-V2 §2, §3.1)."""
