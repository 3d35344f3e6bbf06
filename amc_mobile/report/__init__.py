"""How it is told: a run folder becomes HTML, Markdown and JSON."""
