"""How minicoder shows itself: one visual style, the report, sliders, exercises."""
