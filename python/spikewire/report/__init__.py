"""Self-contained HTML pages about what was decoded and how fast."""
