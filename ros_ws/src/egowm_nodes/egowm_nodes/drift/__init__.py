"""The parts of the drift monitor: what it keeps, judges, says and draws. The judgement is ``egowm_core.drift``."""
