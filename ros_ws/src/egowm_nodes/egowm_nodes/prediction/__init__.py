"""The parts of the world model's node: live context, predictor, parameters, diagnostics, pictures."""
