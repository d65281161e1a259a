"""Run configurations: one file per system and data set, variants behind a colon."""
