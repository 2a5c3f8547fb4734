"""Parts of the planner node: its parameters, goals, what it asks the world model, how it drives, what it shows."""
