"""How work is started, limited in time, and ended: eager tasks, deadlines, threads."""
