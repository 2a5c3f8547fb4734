"""SAM 2 as a tracker: masks or clicked points of the context frame, followed through a video by ``transformers``.

Loaded from a local directory, never from the network, and from safetensors alone. Pictures are prepared here with
torch (resize to the model's square, normalise as the directory's preprocessor file says), since the library's own
processor wants torchvision. One prepared frame is held at a time, and of earlier ones what the model's memory reaches.
Knows nothing of scores; proposals on single pictures are in ``sam2_pictures``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError, ScoreError
from egowm_core.files import read_json
from egowm_core.scs.tracking import check_video
from egowm_core.types import FloatArray, ImageArray

if TYPE_CHECKING:
    import torch

    Tensor: TypeAlias = torch.Tensor

BoolArray = NDArray[np.bool_]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PREPROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_REMEDY = (
    "download config.json, model.safetensors and the preprocessor file of a SAM 2.1 video checkpoint in transformers' "
    "form (for example facebook/sam2.1-hiera-tiny) into it"
)


class Sam2Tracker:
    """SAM 2 video segmentation behind the ``Tracker`` protocol.

    Args:
        model_dir: directory with config.json (model_type sam2_video), model.safetensors and the preprocessor file.
        device: torch device; "cpu" or "cuda".

    Raises:
        ScoreError: transformers is missing or too old, or the directory holds no such weights (names what to download).
    """

    def __init__(self, model_dir: Path | str, *, device: str = "cpu") -> None:
        self.directory = Path(model_dir)
        self.device = device
        self._model = load_model("Sam2VideoModel", self.directory, device)
        self._size = square_of(self._model)
        self._mean, self._std = normalisation(self.directory)

    def track(self, masks: BoolArray, images: ImageArray) -> BoolArray:
        """See ``Tracker.track``. A mask that is empty stays empty."""
        check_video(masks, images)
        out = np.zeros((len(masks), len(images) - 1, *masks.shape[1:]), np.bool_)
        given = [n for n in range(len(masks)) if masks[n].any()]
        if given:
            prompts = [{"mask": masks[n]} for n in given]
            for t, found in enumerate(self._follow(prompts, images)):
                if t:
                    out[given, t - 1] = found
        return out

    def track_points(self, points: Sequence[FloatArray], images: ImageArray) -> BoolArray:
        """One structure per array of points (P,2) x, y on ``images[0]``; images (T+1,H,W,3) -> masks (N,T+1,H,W).

        Column 0 is the mask that the points chose.

        Raises:
            ScoreError: the images do not fit, or a structure has no point or one outside the picture.
        """
        height, width = images.shape[1:3] if images.ndim == 4 else (0, 0)
        check_video(np.zeros((0, height, width), np.bool_), images)
        out = np.zeros((len(points), len(images), height, width), np.bool_)
        check_clicks(points, height, width)
        if len(points):
            for t, found in enumerate(self._follow([{"points": given} for given in points], images)):
                out[:, t] = found
        return out

    def _follow(self, prompts: list[dict[str, Any]], images: ImageArray) -> Iterator[BoolArray]:
        """Masks (N,H,W) of each image in turn."""
        import torch
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        height, width = images.shape[1:3]
        session = Sam2VideoInferenceSession(
            video_height=height,
            video_width=width,
            inference_device=self.device,
            inference_state_device=self.device,
            dtype=torch.float32,
        )
        with torch.inference_mode():
            for number, prompt in enumerate(prompts):
                index = session.obj_id_to_idx(number)
                if "mask" in prompt:
                    whole = torch.from_numpy(prompt["mask"].astype(np.float32))[None, None]
                    square = torch.nn.functional.interpolate(
                        whole, size=(self._size, self._size), mode="bilinear", align_corners=False, antialias=True
                    )
                    session.add_mask_inputs(index, 0, (square >= 0.5).float())
                else:
                    coordinates = to_square(prompt["points"], height, width, self._size)[None, None]
                    labels = torch.ones(coordinates.shape[:-1], dtype=torch.int32)
                    session.add_point_inputs(index, 0, {"point_coords": coordinates, "point_labels": labels})
            session.obj_with_new_inputs = list(range(len(prompts)))
            session.processed_frames = _Prepared(images, self._size, self._mean, self._std)
            for t in range(len(images)):
                found = self._model(session, frame_idx=t)
                logits = at_size(found.pred_masks, height, width)
                yield np.asarray((logits[:, 0] > 0).cpu().numpy(), np.bool_)
                _forget(session, t, self._model.config)


def load_model(name: str, directory: Path, device: str) -> Any:
    """A model class of transformers by ``name``, from a local directory, in eval mode on ``device``.

    Raises:
        ScoreError: see ``Sam2Tracker``.
    """
    if not (directory / "config.json").is_file() or not any((directory / file).is_file() for file in _WEIGHTS):
        raise ScoreError(f"SAM 2 weights are not in {directory}; {_REMEDY}")
    try:
        kind = read_json(directory / "config.json").get("model_type")
    except (DataError, AttributeError) as error:
        raise ScoreError(f"{directory / 'config.json'} cannot be read: {error}; {_REMEDY}") from error
    if kind not in ("sam2_video", "sam2"):
        raise ScoreError(f"{directory} holds a model of type {kind!r}, expected 'sam2_video'; {_REMEDY}")
    try:
        import transformers

        model_class = getattr(transformers, name)
    except (ImportError, AttributeError) as error:
        raise ScoreError(
            f"SAM 2 needs transformers with {name} (5.0 or newer): {error}; install egowm's 'pretrained' extra"
        ) from error
    logging = transformers.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # it warns that one checkpoint serves two classes; that is meant so
    logging.disable_progress_bar()
    try:
        model, report = model_class.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # the library raises many kinds for broken files
        raise ScoreError(
            f"SAM 2 cannot be loaded from {directory}: {error}".splitlines()[0] + f"; {_REMEDY}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise ScoreError(f"{directory} lacks {len(missing)} weights of {name}, {missing[0]} the first; {_REMEDY}")
    return model.to(device).eval()


def square_of(model: Any) -> int:
    """Side in pixels of the square picture that a loaded model expects."""
    size = model.config.vision_config.backbone_config.image_size
    return int(size if isinstance(size, int) else size[0])


def normalisation(directory: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of 0..1 RGB as the directory's preprocessor file says, else ImageNet's.

    Raises:
        ScoreError: the file is broken.
    """
    for name in _PREPROCESSORS:
        if (directory / name).is_file():
            try:
                found = read_json(directory / name)
            except DataError as error:
                raise ScoreError(f"SAM 2 preprocessor: {error}") from error
            for values in (found, found.get("image_processor", {}), found.get("video_processor", {})):
                if "image_mean" in values and "image_std" in values:
                    return tuple(map(float, values["image_mean"])), tuple(map(float, values["image_std"]))
    return _IMAGENET


def prepare(image: ImageArray, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An image (H,W,3) uint8 RGB -> (1,3,size,size) float32, resized without keeping the aspect and normalised."""
    import torch

    whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    square = torch.nn.functional.interpolate(
        whole, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return (square - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def to_square(points: FloatArray, height: int, width: int, size: int) -> Tensor:
    """Points (P,2) x, y of an image (pixel centres at whole numbers) -> the model's square, float32."""
    import torch

    scale = np.asarray([size / width, size / height], np.float32)
    return torch.from_numpy((np.asarray(points, np.float32) + 0.5) * scale)


def at_size(logits: Tensor, height: int, width: int) -> Tensor:
    """Mask logits (N,K,h,w) at an image's own size."""
    import torch

    return torch.nn.functional.interpolate(logits.float(), size=(height, width), mode="bilinear", align_corners=False)


def check_clicks(points: Sequence[FloatArray], height: int, width: int) -> None:
    """Refuse structures without a point, or with one outside the picture.

    Raises:
        ScoreError: as said.
    """
    for number, given in enumerate(points):
        if given.ndim != 2 or given.shape[1] != 2 or len(given) == 0:
            raise ScoreError(f"structure {number} needs points (P,2) of x, y with P >= 1, got {given.shape}")
        low, high = given.min(axis=0), given.max(axis=0)
        if not (low >= -0.5).all() or not (high <= np.asarray([width - 0.5, height - 0.5])).all():
            raise ScoreError(f"structure {number} has a point outside the picture of {height}x{width} (HxW)")


class _Prepared:
    """The frames of a video as the session asks for them, prepared one at a time.

    Not streamed into the session: the model scales its memory's time by the video's length, as SAM 2 itself does.
    """

    def __init__(self, images: ImageArray, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self._images, self._size, self._mean, self._std = images, size, mean, std

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, t: int) -> Tensor:
        return prepare(self._images[t], self._size, self._mean, self._std)[0]


def _forget(session: Any, t: int, config: Any) -> None:
    """Drop what later frames never ask for: masks, and outputs beyond the model's memory."""
    reach = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder))
    for outputs in session.output_dict_per_obj.values():
        for kind in ("cond_frame_outputs", "non_cond_frame_outputs"):
            if t in outputs[kind]:
                outputs[kind][t].pop("high_res_masks", None)
                outputs[kind][t].pop("pred_masks", None)
        outputs["non_cond_frame_outputs"].pop(t - reach, None)
