"""What every node here is made of: lifecycle, executor, worker, parameters, notices, diagnostics. Knows no model."""
