"""What predictions are made with: action rows, paths, joint trajectories, velocities; put on the model's ticks."""
