"""What was imagined to messages: feedback while it comes, the result at its end. Knows messages; no node, no model.

Feedback is bounded: of each turn at most ``MOST_FRAMES`` frames and ``MOST_FEEDBACK_BYTES`` go out, evenly
spread over every candidate's, the last one always. The result has them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from egowm_msgs.action import Imagine

from egowm_core.embodiment import Embodiment
from egowm_nodes import conversions
from egowm_nodes.imagine.qos import MOST_FRAMES
from egowm_nodes.imagine.work import Imagined, Step

MOST_FEEDBACK_BYTES = 8 << 20


def feedback_messages(step: Step, frame_id: str) -> Iterator[Imagine.Feedback]:
    """A message for each frame of a turn, candidate by candidate, in order of time."""
    images = step.chunk.images
    frames = images.shape[1]
    most = max(1, min(MOST_FRAMES, MOST_FEEDBACK_BYTES // images[0, 0].nbytes) // len(images))  # of each candidate
    shown = [frames - 1 - k * frames // most for k in reversed(range(most))] if most < frames else range(frames)
    for row, candidate in enumerate(range(step.chunk.candidates.start, step.chunk.candidates.stop)):
        for index in shown:
            yield Imagine.Feedback(
                candidate=candidate,
                frame=step.chunk.first_frame + index + 1,
                image=conversions.image_message(images[row, index], int(step.stamps_ns[index]), frame_id),
                progress=float(step.progress),
            )


def result_message(imagined: Imagined, *, model: str, embodiment: Embodiment, frame_id: str) -> Imagine.Result:
    """The result of a goal that went well."""
    return Imagine.Result(
        success=True,
        rollouts=[
            conversions.rollout_message(rollout, model=model, embodiment=embodiment, frame_id=frame_id, sequence=index)
            for index, rollout in enumerate(imagined.rollouts)
        ],
        ranking=imagined.ranking or [],
        costs=[] if imagined.costs is None else imagined.costs.tolist(),
    )
