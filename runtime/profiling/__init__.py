"""How long a bundle takes on this machine, stage by stage, and what it needs. `profile` is where to begin."""
