"""The error tree. Every message names the value, what was expected, and the remedy."""


class EgowmError(Exception):
    """Root of every error that egowm raises on purpose."""


class ConfigError(EgowmError):
    """A configuration, embodiment or parameter file does not say what is needed."""


class EmbodimentError(EgowmError):
    """Actions, channels or topics disagree with the embodiment."""


class DataError(EgowmError):
    """A recording, message, image or episode cannot be used."""


class CheckpointError(EgowmError):
    """A checkpoint directory is incomplete, altered or for another robot."""


class RolloutError(EgowmError):
    """A rollout was asked for with a context or actions that do not fit the model."""


class Stopped(RolloutError):  # noqa: N818  nothing went wrong
    """A prediction was given up half-way because its user asked for that; not a fault."""


class NotFiniteError(RolloutError):
    """What a model computed is not a number; nothing of it can be shown."""


class AnswerError(EgowmError):
    """Another node was asked for something and refused, failed or did not answer."""


class ScoreError(EgowmError):
    """Two videos cannot be compared."""
